"""`ReplayClient`: a `JobsClient` that plays a recorded run of the shipped demo, its events and the records it wrote.

`recorded.zip` holds what `edgeprune run --disk 2.4MB --memory 120MB --latency 20ms --evaluations 4 --quick` wrote (the
records of its run folder and `events.jsonl`), the answers of `explain`, `fit` and `generate`, and `search` for a
smaller and for an impossible budget. Only folders were renamed, and the first attempt at the stage `baselines`, which
failed, was left out of the events. A record appears in the run folder when the event arrives that its stage has ended,
as in a live run.
"""

import json
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from edgeprune.errors import UsageError
from edgeprune.schema.budget import BudgetRequest
from edgeprune.schema.candidate import SearchResult
from edgeprune.schema.demo import DemoReport
from edgeprune.schema.device import DeviceProfile
from edgeprune.schema.events import Event
from edgeprune.schema.jobs import (
    DemoJob,
    ExplainJob,
    FitJob,
    GenerateJob,
    Job,
    JobEvent,
    JobRequest,
    ProfileJob,
    RunJob,
    SearchJob,
    StateChange,
    kind_of,
)
from edgeprune.schema.lock import Lock
from edgeprune.schema.meters import GpuMeter, Meters
from edgeprune.tui.feed import Sources
from edgeprune.tui.view_state import ModelOption, NamedProfile

ARCHIVE = Path(__file__).with_name("recorded.zip")
PROFILES = Path(__file__).parents[2] / "profiles"

WRITES = {
    "intake": ("model.json", "manifest.json"),
    "profile": ("device.json",),
    "refine": ("front.json",),
    "export": ("bundle/edgeprune.json",),
    "validate": ("validation.json",),
    "report": ("report.json", "report.md"),
}
"""Stage -> what stands in the run folder once it has ended."""


def recorded(name: str) -> bytes:
    """One file of the archive."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        return archive.read(name)


def recorded_events() -> list[Event]:
    """The run's events, in order."""
    return [msgspec.json.decode(line, type=Event) for line in recorded("events.jsonl").splitlines()]


def write_run(folder: Path, *names: str) -> None:
    """Put recorded records into a run folder; all of them when none is named."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        for entry in archive.namelist():
            if entry.startswith("run/") and (not names or entry.removeprefix("run/") in names):
                target = folder / entry.removeprefix("run/")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(entry))


class ReplayClient:
    """Plays jobs at once, or up to a stage where it is held."""

    def __init__(self, root: Path, *, hold_in: str | None = None) -> None:
        self.root = root
        self.hold_in = hold_in
        """Stage in whose middle a job stays until `release`."""
        self.submitted: list[JobRequest] = []
        self.cancelled: list[str] = []
        self._jobs: dict[str, Job] = {}
        self._history: dict[str, list[JobEvent]] = {}
        self._changed = threading.Condition()
        self._released = threading.Event()

    @classmethod
    def after_a_run(cls, root: Path) -> "ReplayClient":
        """With one whole run that has ended, its records in its folder."""
        client = cls(root)
        write_run(root / "demo")
        job = Job(
            id="j0001",
            request=RunJob(),
            state="succeeded",
            created_s=1_800_000_000.0,
            started_s=1_800_000_000.0,
            exit_code=0,
            run_folder=str(root / "demo"),
            stage="report",
            done_fraction=1.0,
        )
        client._jobs["j0001"] = job
        told: list[Event | StateChange] = [*recorded_events(), StateChange(state="succeeded", time_s=0.0, exit_code=0)]
        client._history["j0001"] = [JobEvent(sequence=place, event=event) for place, event in enumerate(told, start=1)]
        return client

    def release(self) -> None:
        self._released.set()

    def submit(self, request: JobRequest) -> Job:
        with self._changed:
            job_id = f"j{len(self._jobs) + 1:04d}"
            self.submitted.append(request)
            self._jobs[job_id] = Job(
                id=job_id, request=request, state="queued", created_s=1_800_000_000.0, run_folder=self._folder(request)
            )
            self._history[job_id] = []
        threading.Thread(target=self._play, args=(job_id,), daemon=True).start()
        return self._jobs[job_id]

    def cancel(self, job_id: str) -> Job:
        self.cancelled.append(job_id)
        self._change(job_id, "cancelling")
        self._change(job_id, "cancelled", exit_code=130)
        self.release()
        return self.job(job_id)

    def resume(self, job_id: str) -> Job:
        threading.Thread(target=self._play, args=(job_id,), daemon=True).start()
        return self.job(job_id)

    def jobs(self) -> list[Job]:
        with self._changed:
            return list(self._jobs.values())

    def job(self, job_id: str) -> Job:
        with self._changed:
            if job_id not in self._jobs:
                raise UsageError(f"There is no job {job_id}.")
            return self._jobs[job_id]

    def events(self, job_id: str, since: int = 0, follow: bool = True) -> Iterator[JobEvent]:
        place = since
        while True:
            with self._changed:
                while follow and len(self._history[job_id]) <= place and not self._jobs[job_id].is_over:
                    self._changed.wait(1.0)
                entries = self._history[job_id][place:]
                is_over = self._jobs[job_id].is_over
            yield from entries
            place += len(entries)
            if (is_over or not follow) and not entries:
                return

    def result(self, job_id: str) -> bytes:
        request = self.job(job_id).request
        if isinstance(request, ExplainJob):
            return recorded("explanation.json")
        if isinstance(request, FitJob):
            return recorded("fit.json")
        if isinstance(request, DemoJob):
            return _demo_report()
        if isinstance(request, GenerateJob):
            return recorded("answer_dense.json" if "baselines" in request.bundle else "answer_recipe.json")
        raise UsageError(f"The job {job_id} has no result.")

    def log(self, job_id: str) -> str:
        return "replayed: nothing was written to stderr\n"

    def close(self) -> None:
        self.release()

    def _folder(self, request: JobRequest) -> str | None:
        if isinstance(request, RunJob):
            return str(self.root / "demo")
        path = getattr(request, "run", None) or getattr(request, "path", None)
        return path if isinstance(path, str) else None

    def _play(self, job_id: str) -> None:
        request = self.job(job_id).request
        self._change(job_id, "running")
        folder = Path(self.job(job_id).run_folder or self.root)
        if isinstance(request, (DemoJob, ExplainJob, FitJob, GenerateJob, ProfileJob)):
            self._change(job_id, "succeeded", exit_code=0)
            return
        stages = None if isinstance(request, RunJob) else {kind_of(request)}
        for event in recorded_events():
            if self.job(job_id).state == "cancelled":
                return
            if stages is not None and event.stage not in stages:
                continue
            if event.kind == "stage_finished":
                self._write(folder, event.stage, request)
            self._tell(job_id, event)
            if event.kind == "stage_advanced" and event.stage == self.hold_in and (event.done_fraction or 0.0) > 0.4:
                self._released.wait(60.0)
        self._change(job_id, "succeeded", exit_code=0)

    def _write(self, folder: Path, stage: str, request: JobRequest) -> None:
        if isinstance(request, SearchJob):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "front.json").write_bytes(recorded("solved.json"))
        elif stage in WRITES:
            write_run(folder, *WRITES[stage])

    def _tell(self, job_id: str, event: Event | StateChange) -> None:
        with self._changed:
            history = self._history[job_id]
            history.append(JobEvent(sequence=len(history) + 1, event=event))
            if isinstance(event, Event):
                self._jobs[job_id] = msgspec.structs.replace(
                    self._jobs[job_id], stage=event.stage, done_fraction=event.done_fraction
                )
            self._changed.notify_all()

    def _change(self, job_id: str, state: str, exit_code: int | None = None) -> None:
        with self._changed:
            job = msgspec.structs.replace(
                self._jobs[job_id],
                state=state,
                exit_code=exit_code,
                started_s=1_800_000_000.0,  # type: ignore[arg-type]
            )
            self._jobs[job_id] = job
        self._tell(job_id, StateChange(state=job.state, time_s=1_800_000_000.0, exit_code=exit_code))


def _demo_report() -> bytes:
    """What `demo` answers, around the recorded search for 1.9 MB."""
    found = msgspec.json.decode(recorded("solved.json"), type=SearchResult)
    return msgspec.json.encode(
        DemoReport(
            verdict=found.predicted, notice="A demo.", device_name=found.device_name,
            context_tokens=found.context_tokens, default=None, asked=found, validation=None, figures=(), took_s={},
        )
    )  # fmt: skip


class ReplaySolver:
    """Answers with the recorded search for 1.9 MB, or with the recorded impossible one where a loss is limited."""

    asked: list[BudgetRequest]

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.asked = []

    def solve(
        self, budget: BudgetRequest, *, context: int | None = None, locks: tuple[Lock, ...] | None = None
    ) -> SearchResult | None:
        self.asked.append(budget)
        name = "solved.json" if budget.max_loss is None else "infeasible.json"
        return msgspec.json.decode(recorded(name), type=SearchResult)

    def close(self) -> None:
        self.asked = []


class StillMeters:
    """A machine that never changes, so that pictures of it do not either."""

    def read(self) -> Meters:
        return Meters(
            time_s=1_800_000_000.0,
            total_bytes=33_500_000_000,
            available_bytes=21_300_000_000,
            core_loads=(0.97, 0.12),
            temperature_c=61.0,
            gpus=(GpuMeter(name="NVIDIA Test", load_fraction=0.4, used_bytes=2_000_000_000,
                           total_bytes=8_000_000_000, temperature_c=55.0),),
        )  # fmt: skip

    def close(self) -> None:
        pass


def still_profiles() -> tuple[NamedProfile, ...]:
    """The recorded run's own profile as a saved one, and two that ship."""
    here = msgspec.json.decode(recorded("run/device.json"), type=DeviceProfile)
    shipped = [
        NamedProfile(name, False, msgspec.json.decode((PROFILES / f"{name}.json").read_bytes(), type=DeviceProfile))
        for name in ("jetson-orin-nano", "raspberry-pi-5")
    ]
    return (NamedProfile("here", True, here), *shipped)


def still_models() -> tuple[ModelOption, ...]:
    return (
        ModelOption("", "ships with EdgePrune", 7_924_000),
        ModelOption("HuggingFaceTB/SmolLM2-135M", "hub cache", 269_060_552),
    )


def replay_sources(client: ReplayClient) -> Sources:
    """Everything recorded."""
    return Sources(
        connect=lambda: client,
        open_solver=ReplaySolver,
        open_meters=StillMeters,
        list_models=still_models,
        list_profiles=still_profiles,
    )


def decoded(name: str) -> dict[str, object]:
    """A recorded record as plain JSON, to be changed by a test."""
    found = json.loads(recorded(name))
    assert isinstance(found, dict)
    return found
