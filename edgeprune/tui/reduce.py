"""`reduce(view, message)`: the next state of the app. Pure: no clock, no file, no textual."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from edgeprune.schema.events import Event
from edgeprune.schema.jobs import RunJob, StateChange, kind_of
from edgeprune.tui import messages as told
from edgeprune.tui.draft import draft_of
from edgeprune.tui.view_state import STAGES, ChatTurn, Draft, RunRecords, StageState, StageView, View

__all__ = ["reduce"]

METER_COUNT = 60
"""Readings kept: a minute at one a second."""
NOTE_COUNT = 100
"""Notes kept of a job."""

FOLLOWED = ("run", "search", "compress", "export", "validate", "report")
"""Kinds of work on a run folder: the last of them is looked at when the app opens."""

_ENDINGS = {"cancelled": "was cancelled; finished stages are kept, resume goes on",
            "interrupted": "was interrupted; press r to resume it"}  # fmt: skip


def reduce(view: View, message: told.Message) -> View:
    """The view after a message; the same view when it says nothing new."""
    return _STEPS[type(message)](view, message)


def _jobs_listed(view: View, message: told.JobsListed) -> View:
    """The list; the first one brings the job to look at, and a run's folder is shown as soon as it is known."""
    if message.jobs == view.jobs and view.has_listed:
        return view
    view = replace(view, jobs=message.jobs, has_listed=True, is_connected=True)
    if view.followed is None and view.run_folder is None:
        at_work = [job for job in message.jobs if kind_of(job.request) in FOLLOWED]
        running = [job for job in at_work if not job.is_over]
        latest = (running or [job for job in at_work if job.run_folder is not None])[-1:]
        return _followed(view, told.Followed(latest[0].id, latest[0].run_folder)) if latest else view
    job = view.job(view.followed)
    if job is not None and job.run_folder is not None and job.run_folder != view.run_folder:
        return _followed(view, told.Followed(job.id, job.run_folder))
    return view


def _followed(view: View, message: told.Followed) -> View:
    folder = message.run_folder or view.run_folder
    same_folder = folder == view.run_folder
    if message.job_id == view.followed and same_folder:
        return view
    return replace(
        view,
        followed=message.job_id,
        stages=view.stages if message.job_id == view.followed else (),
        notes=view.notes if message.job_id == view.followed else (),
        last_sequence=view.last_sequence if message.job_id == view.followed else 0,
        log="" if message.job_id != view.followed else view.log,
        run_folder=folder,
        # A run that is opened brings its own request; one that was started here was asked for by the draft.
        draft=view.draft if same_folder or message.job_id is not None else Draft(),
        records=view.records if same_folder else RunRecords(),
        report_text=view.report_text if same_folder else None,
        explanation=view.explanation if same_folder else None,
        solved=view.solved if same_folder else None,
        chat=view.chat if same_folder else (),
    )


def _event_arrived(view: View, message: told.EventArrived) -> View:
    """History may be told twice (attach replays it): an entry that was seen changes nothing."""
    if message.job_id != view.followed or message.entry.sequence <= view.last_sequence:
        return view
    view = replace(view, last_sequence=message.entry.sequence)
    event = message.entry.event
    if isinstance(event, StateChange):
        return _state_changed(view, message.job_id, event, is_first=message.entry.sequence == 1)
    stages = _with_stage(_opening_stages(view), event)
    notes = view.notes
    if event.kind in ("noted", "failed") and event.message:
        notes = (*notes, f"{event.stage}: {event.message}")[-NOTE_COUNT:]
    return replace(view, stages=stages, notes=notes)


def _state_changed(view: View, job_id: str, change: StateChange, *, is_first: bool) -> View:
    job = view.job(job_id)
    name = "The job" if job is None else f"The {kind_of(job.request)} job"
    stages = view.stages
    if change.state in ("failed", "cancelled", "interrupted"):
        ended: StageState = "failed" if change.state == "failed" else "waiting"
        stopped = ("running",) if change.state == "failed" else ("running", "failed")
        stages = tuple(replace(stage, state=ended) if stage.state in stopped else stage for stage in stages)
    if change.state == "queued" and not is_first:
        return replace(view, stages=stages, sentence="", is_problem=False)  # it was resumed: its last end is past
    if change.state == "failed":
        sentence = change.error or f"{name} failed; its log (screen 7) tells more."
        return replace(view, stages=stages, sentence=sentence, is_problem=True)
    if change.state in _ENDINGS:
        return replace(view, stages=stages, sentence=f"{name} {_ENDINGS[change.state]}.", is_problem=False)
    if change.state == "succeeded":
        is_negative = change.exit_code not in (0, None)
        end = "ended with a negative answer" if is_negative else "is done"
        last = next(
            (f": {stage.message}" for stage in reversed(stages) if stage.state == "done" and stage.message), "."
        )
        return replace(view, sentence=f"{name} {end}{last}", is_problem=False)
    return view


def _opening_stages(view: View) -> tuple[StageView, ...]:
    """A whole run shows all its stages from the start, other jobs those they tell of."""
    job = view.job(view.followed)
    if view.stages or job is None or not isinstance(job.request, RunJob):
        return view.stages
    return tuple(StageView(name) for name in STAGES)


def _with_stage(stages: tuple[StageView, ...], event: Event) -> tuple[StageView, ...]:
    known = {stage.name: stage for stage in stages}
    stage = known.get(event.stage, StageView(event.stage))
    at_work = next((entry for entry in stages if entry.state == "running"), None)
    if event.kind == "stage_advanced" and at_work is not None and stage.state != "running":
        # Building a recipe to measure it tells of `compress` and `export` inside the stage `refine`.
        known[at_work.name] = replace(at_work, message=f"{event.stage}: {event.message}".rstrip(": "))
        return tuple(known.values())
    if event.kind == "stage_started":
        stage = replace(
            stage, state="running", message=event.message, done_fraction=0.0, remaining_s=None,
            started_s=event.time_s, finished_s=None,
        )  # fmt: skip
    elif event.kind == "stage_advanced":
        stage = replace(
            stage, state="running", message=event.message or stage.message,
            done_fraction=event.done_fraction, remaining_s=event.remaining_s,
        )  # fmt: skip
    elif event.kind in ("stage_finished", "stage_skipped"):
        stage = replace(
            stage, state="done" if event.kind == "stage_finished" else "skipped", message=event.message,
            done_fraction=1.0, remaining_s=None, finished_s=event.time_s,
        )  # fmt: skip
    elif event.kind == "failed":
        stage = replace(stage, state="failed", message=event.message)
    elif event.stage not in known:
        return stages
    known[event.stage] = stage
    return tuple(known.values())


def _records_read(view: View, message: told.RecordsRead) -> View:
    if message.folder != view.run_folder:
        return view
    if message.records == view.records and message.report_text == view.report_text:
        return view
    view = _adopted(view, message.records)
    is_new_front = message.records.front is not None and message.records.front != view.records.front
    return replace(
        view,
        records=message.records,
        report_text=message.report_text,
        solved=None if is_new_front else view.solved,
        explanation=None if is_new_front else view.explanation,
    )


def _adopted(view: View, records: RunRecords) -> View:
    """The run's own request as the draft, while the user has written nothing."""
    draft, manifest = view.draft, records.manifest
    if manifest is None or draft.is_model_chosen or draft.limits:
        return view
    return replace(view, draft=draft_of(manifest.request))


def _metered(view: View, message: told.Metered) -> View:
    return replace(view, meters=(*view.meters, message.meters)[-METER_COUNT:])


def _drafted(view: View, **changes: Any) -> View:
    return replace(view, draft=replace(view.draft, **changes))


def _model_chosen(view: View, message: told.ModelChosen) -> View:
    is_other = view.draft.is_model_chosen and view.draft.model != message.model
    fresh = replace(view.draft, model=message.model, is_model_chosen=True, locks=() if is_other else view.draft.locks)
    return replace(view, draft=fresh)


def _limit_changed(view: View, message: told.LimitChanged) -> View:
    limits = {name: text for name, text in view.draft.limits if name != message.quantity}
    if message.text.strip():
        limits[message.quantity] = message.text.strip()
    return _drafted(view, limits=tuple(limits.items()))


def _solved(view: View, message: told.Solved) -> View:
    if message.result is None:
        return view  # a newer question is being answered
    return replace(view, is_solving=False, solved=message.result)


def _chat_asked(view: View, message: told.ChatAsked) -> View:
    turn = ChatTurn(prompt=message.prompt, answers=tuple((label, None) for label in message.labels))
    return replace(view, chat=(*view.chat, turn))


def _chat_answered(view: View, message: told.ChatAnswered) -> View:
    if not view.chat:
        return view
    *earlier, last = view.chat
    answers = tuple((label, message.answer if label == message.label else known) for label, known in last.answers)
    return replace(view, chat=(*earlier, replace(last, answers=answers)))


def _said(view: View, message: told.Said) -> View:
    is_solving = view.is_solving and not message.is_problem
    return replace(view, sentence=message.sentence, is_problem=message.is_problem, is_solving=is_solving)


_STEPS: dict[type, Callable[[View, Any], View]] = {
    told.Connected: lambda view, _: replace(view, is_connected=True),
    told.JobsListed: _jobs_listed,
    told.Followed: _followed,
    told.EventArrived: _event_arrived,
    told.RecordsRead: _records_read,
    told.Metered: _metered,
    told.ProfilesListed: lambda view, message: replace(view, profiles=message.profiles),
    told.ModelsListed: lambda view, message: replace(view, models=message.models),
    told.ModelChosen: _model_chosen,
    told.DomainChanged: lambda view, message: _drafted(view, domain=message.domain),
    told.DeviceChosen: lambda view, message: _drafted(view, device=message.device),
    told.LimitChanged: _limit_changed,
    told.ContextChanged: lambda view, message: _drafted(view, context=message.text.strip()),
    told.EvaluationsChanged: lambda view, message: _drafted(view, evaluations=message.text.strip()),
    told.LocksChanged: lambda view, message: _drafted(view, locks=message.locks),
    told.SolvingStarted: lambda view, _: replace(view, is_solving=True),
    told.Solved: _solved,
    told.Fitted: lambda view, message: replace(view, fit=message.report, plan=None, sentence=""),
    told.Planned: lambda view, message: replace(view, plan=message.report, sentence=""),
    told.Explained: lambda view, message: replace(view, explanation=message.explanation, sentence=""),
    told.ChatAsked: _chat_asked,
    told.ChatAnswered: _chat_answered,
    told.LogRead: lambda view, message: replace(view, log=message.text),
    told.Said: _said,
}
