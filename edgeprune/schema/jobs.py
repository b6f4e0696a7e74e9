"""`JobRequest`, `Job` and `JobEvent`: work handed to a child process, where it stands, and what it told.

A request is a tagged union: one record for each kind of work, and its `kind` is the verb's name. Every path in a
request is absolute (clients make it so); what a job writes has a plain name inside `runs`.
"""

from typing import ClassVar, Literal, TypeAlias

import msgspec

from edgeprune.schema.base import SCHEMA_VERSION, Record
from edgeprune.schema.budget import Budget, BudgetRequest
from edgeprune.schema.choice import ChoiceRequest
from edgeprune.schema.emulation import Emulation
from edgeprune.schema.events import Event
from edgeprune.schema.generation import Sampling
from edgeprune.schema.lock import Lock
from edgeprune.schema.model import SiteForm
from edgeprune.schema.recovery import RecoveryRequest
from edgeprune.schema.run import RunRequest

__all__ = [
    "ChooseJob",
    "CompressJob",
    "DaemonStatus",
    "DemoJob",
    "DoctorJob",
    "ExplainJob",
    "ExportJob",
    "FitJob",
    "GenerateJob",
    "GuardKind",
    "Job",
    "JobEvent",
    "JobList",
    "JobRequest",
    "JobState",
    "LaserJob",
    "LaserSearch",
    "PlanJob",
    "ProfileJob",
    "ReportJob",
    "RunJob",
    "SearchJob",
    "StateChange",
    "TechniqueJob",
    "ValidateJob",
    "decode_job_event",
    "encode_job_event",
    "kind_of",
]

JobState = Literal["queued", "running", "cancelling", "succeeded", "failed", "cancelled", "interrupted"]
"""`succeeded`: a result was written, also a valid negative one (exit code 1); `interrupted`: its process or the daemon
was killed, `resume` goes on."""


LaserSearch = Literal["fast", "grid", "compose"]

GuardKind = Literal["scope", "group", "process"]
"""What holds jobs to their memory limit: a scope of the user's service manager, a control group of the daemon's own, or
RLIMIT_DATA of each process."""


class _Asked(Record, frozen=True, kw_only=True, tag_field="kind"):
    """What every request may say."""

    runs: str | None = None
    """Absolute folder that run folders are made in; None: the client's `edgeprune-runs`, the daemon's own without one.
    """
    memory_bytes: int | None = None
    """Most private memory of the job's processes, each; None: what is predicted and some more, 0: no limit."""


class RunJob(_Asked, frozen=True, kw_only=True, tag="run"):
    """All stages; the result is a `RunOutcome`."""

    request: RunRequest = RunRequest()
    output: str | None = None
    """Plain name of the run folder in `runs`; None: after the model, as the command line names it."""


class SearchJob(_Asked, frozen=True, kw_only=True, tag="search"):
    """Solve a run again; the result is a `SearchResult`."""

    run: str
    """Path of the run folder; so in the other kinds."""
    budget: BudgetRequest | None = None
    """None keeps the run's own; so `context_tokens`, `decode_tokens` and `locks`."""
    context_tokens: int | None = None
    decode_tokens: int | None = None
    locks: tuple[Lock, ...] | None = None
    evaluations: int | None = None
    """Recipes at most that are built and measured; None builds none."""
    worker_count: int = 1
    cluster: str | None = None


class ValidateJob(_Asked, frozen=True, kw_only=True, tag="validate"):
    """Measure a run's bundles, or one bundle; the result is a `ValidationReport`."""

    path: str
    """Run folder or bundle."""
    execution_provider: str = "cpu"
    thread_count: int | None = None
    recalibrate: str | None = None
    """Name of the profile to correct."""
    emulation: Emulation | None = None


class ExportJob(_Asked, frozen=True, kw_only=True, tag="export"):
    """Write a run's bundles; the result is a `BundleManifest`."""

    run: str
    kv_bits: Literal[8, 32] | None = None
    """Of the key-value cache; None as the recipe says."""
    last_logits: bool = False
    """See `RunRequest`."""
    activation_bits: Literal[16, 32] | None = None
    """See `RunRequest`; None as the run says."""


class CompressJob(_Asked, frozen=True, kw_only=True, tag="compress"):
    """Apply a run's recipe; the result is a `CompressOutcome`."""

    run: str
    recovery: RecoveryRequest | None = None


class TechniqueJob(_Asked, frozen=True, kw_only=True, tag="technique"):
    """One technique alone; the result is a `CompressOutcome`."""

    model: str
    technique: str
    kept_fraction: float
    domain: tuple[str, ...]
    output: str
    """Plain name of the folder in `runs`."""
    general: tuple[str, ...] = ()
    context_tokens: int | None = None
    seed: int = 0
    compensate: bool = True
    repair_rank: int | None = None
    rank_form: SiteForm | None = None
    """How `lowrank` stores ranks; None is its own choice."""
    recovery: RecoveryRequest | None = None


class ReportJob(_Asked, frozen=True, kw_only=True, tag="report"):
    """Render a run's report again; the result is a `RunReport`."""

    run: str


class ProfileJob(_Asked, frozen=True, kw_only=True, tag="profile"):
    """Measure this device; the result is a `DeviceProfile`."""

    quick: bool = False
    save: str | None = None
    """Name to keep it under."""
    thread_count: int | None = None
    emulation: Emulation | None = None


class FitJob(_Asked, frozen=True, kw_only=True, tag="fit"):
    """Which models fit a device; the result is a `FitReport`."""

    models: tuple[str, ...] = ()
    """Names of the catalogue, or folders; none takes the whole catalogue."""
    device: str | None = None
    budget: Budget = Budget()
    context_tokens: int | None = None
    precisions: tuple[str, ...] | None = None


class PlanJob(_Asked, frozen=True, kw_only=True, tag="plan"):
    """What would fit, from headers; the result is a `PlanReport`."""

    models: tuple[str, ...]
    device: str | None = None
    budget: BudgetRequest | None = None
    context_tokens: int | None = None
    thread_count: int | None = None


class ChooseJob(_Asked, frozen=True, kw_only=True, tag="choose"):
    """Which of several models to take; the result is a `ChoiceReport`."""

    request: ChoiceRequest
    output: str | None = None
    """Plain name in `runs`; None: `choice`."""


class ExplainJob(_Asked, frozen=True, kw_only=True, tag="explain"):
    """Why a recipe is what it is; the result is an `Explanation`."""

    path: str
    """Run folder or recipe file."""
    run: str | None = None
    """The run a recipe file elsewhere is for."""


class DemoJob(_Asked, frozen=True, kw_only=True, tag="demo"):
    """Solve and measure the demo model; the result is a `DemoReport`."""

    device: str | None = None
    budget: BudgetRequest | None = None
    context_tokens: int | None = None
    validates: bool = True
    thread_count: int | None = None


class DoctorJob(_Asked, frozen=True, kw_only=True, tag="doctor"):
    """Check this installation; the result is a `DoctorReport`."""

    with_families: bool = False


class GenerateJob(_Asked, frozen=True, kw_only=True, tag="generate"):
    """Continue one text; the result is a `GeneratedText`."""

    bundle: str
    prompt: str
    sampling: Sampling = Sampling()
    execution_provider: str = "cpu"
    thread_count: int | None = None


class LaserJob(_Asked, frozen=True, kw_only=True, tag="laser"):
    """Truncate single matrices; the result is a `LaserOutcome`."""

    model: str
    questions: str
    search: LaserSearch = "fast"
    domain: tuple[str, ...] = ()
    max_loss: float | None = None
    output: str | None = None
    """Plain name in `runs`; None writes no model."""
    context_tokens: int | None = None


JobRequest: TypeAlias = (
    RunJob
    | SearchJob
    | ValidateJob
    | ExportJob
    | CompressJob
    | TechniqueJob
    | ReportJob
    | ProfileJob
    | FitJob
    | PlanJob
    | ChooseJob
    | ExplainJob
    | DemoJob
    | DoctorJob
    | GenerateJob
    | LaserJob
)


def kind_of(request: JobRequest) -> str:
    """The verb a request is for, such as `run`."""
    return str(request.__struct_config__.tag)


class Job(Record, frozen=True, kw_only=True):
    """One piece of work, as the journal knows it."""

    schema_version: int = SCHEMA_VERSION
    id: str
    """Letters and digits; later jobs sort after earlier ones."""
    request: JobRequest
    state: JobState
    created_s: float
    """Seconds since the epoch."""
    started_s: float | None = None
    """Of the last start; None before the first."""
    finished_s: float | None = None
    exit_code: int | None = None
    """As the command line would have ended; None while there is none."""
    error: str | None = None
    """One sentence; None where nothing failed."""
    run_folder: str | None = None
    """None for work that has none, and until it is known."""
    stage: str | None = None
    """Of the last event."""
    done_fraction: float | None = None
    """Of that stage, in [0, 1]; None when unknown."""

    FINAL: ClassVar[frozenset[str]] = frozenset(("succeeded", "failed", "cancelled"))

    @property
    def is_over(self) -> bool:
        """Whether nothing will happen any more unless somebody resumes it."""
        return self.state in Job.FINAL or self.state == "interrupted"


class JobList(Record, frozen=True, kw_only=True):
    """All jobs, oldest first."""

    schema_version: int = SCHEMA_VERSION
    jobs: tuple[Job, ...]


class DaemonStatus(Record, frozen=True, kw_only=True):
    """What a daemon says of itself."""

    schema_version: int = SCHEMA_VERSION
    protocol: int
    version: str
    """Of EdgePrune."""
    pid: int
    started_s: float
    socket: str
    state_folder: str
    queued_count: int
    running_count: int
    rss_bytes: int | None = None
    """Resident memory; None where the system does not tell."""
    memory_guard: GuardKind | None = None
    """None: a daemon that does not say."""


class StateChange(Record, frozen=True, kw_only=True):
    """A job entered a state."""

    state: JobState
    time_s: float
    exit_code: int | None = None
    error: str | None = None


class JobEvent(Record, frozen=True, kw_only=True):
    """One entry of a job's history."""

    sequence: int
    """1, 2, 3, ... without gap in one job."""
    event: Event | StateChange


class _Line(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A `JobEvent` on the wire; neither of its two records carries a tag, so the field's name tells which it is."""

    sequence: int
    event: Event | None = None
    change: StateChange | None = None


_LINES = msgspec.json.Decoder(_Line)


def encode_job_event(entry: JobEvent) -> bytes:
    """One line of JSON without its end: `{"sequence":n,"event":{...}}`, or `change` in the place of `event`."""
    is_change = isinstance(entry.event, StateChange)
    return msgspec.json.encode({"sequence": entry.sequence, "change" if is_change else "event": entry.event})


def decode_job_event(line: bytes) -> JobEvent:
    """Read what `encode_job_event` wrote.

    Raises:
        msgspec.DecodeError: it is something else.
    """
    read = _LINES.decode(line)
    told = read.event if read.event is not None else read.change
    if told is None:
        raise msgspec.DecodeError("neither an event nor a change of state")
    return JobEvent(sequence=read.sequence, event=told)
