"""The state of the app, from recorded events: no screen, no thread, no clock."""

from dataclasses import replace

import msgspec
import pytest

from edgeprune.schema.candidate import SearchResult
from edgeprune.schema.events import Event
from edgeprune.schema.jobs import Job, JobEvent, RunJob, StateChange
from edgeprune.schema.lock import Lock
from edgeprune.schema.run import RunManifest
from edgeprune.tui import messages as told
from edgeprune.tui.reduce import reduce
from edgeprune.tui.view_state import STAGES, RunRecords, View
from tests.tui.replay import recorded, recorded_events

JOB = Job(id="j0001", request=RunJob(), state="running", created_s=0.0, run_folder="/runs/demo")


def followed() -> View:
    view = reduce(View(), told.JobsListed((JOB,)))
    return reduce(view, told.Followed("j0001", "/runs/demo"))


def play(view: View, events: list[Event], first: int = 1) -> View:
    for sequence, event in enumerate(events, start=first):
        view = reduce(view, told.EventArrived("j0001", JobEvent(sequence=sequence, event=event)))
    return view


def test_a_whole_run_ends_with_every_stage_done_in_its_order() -> None:
    view = play(followed(), recorded_events())
    assert [stage.name for stage in view.stages[: len(STAGES)]] == list(STAGES)
    assert {stage.state for stage in view.stages} == {"done"}
    assert view.stage("search").message.startswith("recipe: 2.40 MB on disk")  # type: ignore[union-attr]


def test_half_a_run_shows_what_is_done_what_runs_and_what_waits() -> None:
    events = recorded_events()
    middle = next(i for i, event in enumerate(events) if event.stage == "calibrate" and event.kind == "stage_advanced")
    view = play(followed(), events[: middle + 1])
    states = {stage.name: stage.state for stage in view.stages}
    assert states["profile"] == "done"
    assert states["calibrate"] == "running"
    assert states["export"] == "waiting"


def test_never_do_two_stages_run_at_once() -> None:
    """Recipes that are built to be measured tell of `compress` and `export` while `refine` is at work."""
    view = followed()
    for sequence, event in enumerate(recorded_events(), start=1):
        view = reduce(view, told.EventArrived("j0001", JobEvent(sequence=sequence, event=event)))
        assert sum(stage.state == "running" for stage in view.stages) <= 1


def test_a_resumed_job_takes_back_what_was_said_of_its_end() -> None:
    view = play(followed(), [Event(kind="stage_started", stage="calibrate")])
    for sequence, state in ((2, "cancelled"), (3, "queued"), (4, "running")):
        change = StateChange(state=state, time_s=1.0)  # type: ignore[arg-type]
        view = reduce(view, told.EventArrived("j0001", JobEvent(sequence=sequence, event=change)))
    assert view.sentence == ""


def test_history_told_twice_changes_nothing() -> None:
    events = recorded_events()
    once = play(followed(), events)
    assert play(once, events) is once


def test_events_of_another_job_change_nothing() -> None:
    view = followed()
    entry = JobEvent(sequence=1, event=recorded_events()[1])
    assert reduce(view, told.EventArrived("j0009", entry)) is view


def test_a_failure_says_its_sentence_and_marks_the_stage() -> None:
    view = play(followed(), [Event(kind="stage_started", stage="calibrate")])
    change = StateChange(state="failed", time_s=1.0, exit_code=4, error="The disk is full; free space and resume.")
    view = reduce(view, told.EventArrived("j0001", JobEvent(sequence=2, event=change)))
    assert view.is_problem
    assert view.sentence == "The disk is full; free space and resume."
    assert view.stage("calibrate").state == "failed"  # type: ignore[union-attr]


@pytest.mark.parametrize("state", ["cancelled", "interrupted"])
def test_what_was_stopped_is_not_called_a_problem_and_says_how_to_go_on(state: str) -> None:
    view = play(followed(), [Event(kind="stage_started", stage="calibrate")])
    change = StateChange(state=state, time_s=1.0)  # type: ignore[arg-type]
    view = reduce(view, told.EventArrived("j0001", JobEvent(sequence=2, event=change)))
    assert not view.is_problem
    assert "resume" in view.sentence
    assert view.stage("calibrate").state == "waiting"  # type: ignore[union-attr]


def test_a_start_follows_the_job_that_runs_before_the_one_that_ended_last() -> None:
    ended = Job(id="j0002", request=RunJob(), state="succeeded", created_s=1.0, run_folder="/runs/other")
    view = reduce(View(), told.JobsListed((JOB, ended)))
    assert view.followed == "j0001"
    assert view.run_folder == "/runs/demo"
    rest = replace(view, followed=None, run_folder=None, has_listed=False)
    idle = msgspec.structs.replace(JOB, state="succeeded")
    assert reduce(rest, told.JobsListed((idle, ended))).followed == "j0002"


def test_a_folder_known_later_is_shown_then() -> None:
    early = msgspec.structs.replace(JOB, run_folder=None)
    view = reduce(reduce(View(), told.JobsListed((early,))), told.Followed("j0001"))
    assert view.run_folder is None
    assert reduce(view, told.JobsListed((JOB,))).run_folder == "/runs/demo"


def test_another_run_brings_its_own_records_and_takes_the_old_ones_away() -> None:
    front = msgspec.json.decode(recorded("run/front.json"), type=SearchResult)
    view = reduce(followed(), told.RecordsRead("/runs/demo", RunRecords(front=front), "# report"))
    assert view.records.front == front
    other = reduce(view, told.Followed("j0002", "/runs/other"))
    assert other.records.front is None
    assert other.report_text is None
    late = told.RecordsRead("/runs/demo", RunRecords(front=front), None)
    assert reduce(other, late) is other


def test_a_search_that_was_written_takes_the_place_of_the_one_that_was_tried() -> None:
    front = msgspec.json.decode(recorded("run/front.json"), type=SearchResult)
    tried = msgspec.json.decode(recorded("solved.json"), type=SearchResult)
    view = reduce(followed(), told.RecordsRead("/runs/demo", RunRecords(front=front), None))
    view = reduce(reduce(view, told.SolvingStarted()), told.Solved(tried))
    assert view.solved == tried
    assert not view.is_solving
    written = reduce(view, told.RecordsRead("/runs/demo", RunRecords(front=tried), None))
    assert written.solved is None


def test_a_question_that_a_newer_one_overtook_leaves_the_solver_at_work() -> None:
    view = reduce(followed(), told.SolvingStarted())
    assert reduce(view, told.Solved(None)).is_solving


def test_the_runs_own_request_becomes_the_draft_until_the_user_writes() -> None:
    manifest = msgspec.json.decode(recorded("run/manifest.json"), type=RunManifest)
    read = told.RecordsRead("/runs/demo", RunRecords(manifest=manifest), None)
    view = reduce(followed(), read)
    assert dict(view.draft.limits) == {"memory": "120MB", "latency": "20ms", "disk": "2.4MB"}
    assert view.draft.domain == "medicine"
    mine = reduce(followed(), told.LimitChanged("disk", "1MB"))
    assert dict(reduce(mine, read).draft.limits) == {"disk": "1MB"}


def test_limits_are_written_changed_and_lifted() -> None:
    view = reduce(View(), told.LimitChanged("disk", " 2MB "))
    view = reduce(view, told.LimitChanged("memory", "60%"))
    assert dict(view.draft.limits) == {"disk": "2MB", "memory": "60%"}
    assert dict(reduce(view, told.LimitChanged("disk", "")).draft.limits) == {"memory": "60%"}


def test_another_model_drops_the_locks_of_the_first() -> None:
    view = reduce(View(), told.ModelChosen(None))
    view = reduce(view, told.LocksChanged((Lock(pattern="block.3", action="keep"),)))
    assert reduce(view, told.ModelChosen(None)).draft.locks
    assert not reduce(view, told.ModelChosen("org/name")).draft.locks
