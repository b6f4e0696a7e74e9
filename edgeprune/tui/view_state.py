"""`View`: everything the app shows, as one frozen value; `reduce` makes the next one.

Records stand in it as the jobs wrote them; `source` gives one with the id that figures on the screen carry.
"""

from dataclasses import dataclass, field
from typing import Literal

from edgeprune.schema.bundle import BundleManifest
from edgeprune.schema.candidate import SearchResult
from edgeprune.schema.device import DeviceProfile
from edgeprune.schema.explanation import Explanation
from edgeprune.schema.fit import FitReport
from edgeprune.schema.generation import GeneratedText
from edgeprune.schema.jobs import Job
from edgeprune.schema.lock import Lock
from edgeprune.schema.measurement import ValidationReport
from edgeprune.schema.meters import Meters
from edgeprune.schema.model import ModelSpec
from edgeprune.schema.plan import PlanReport
from edgeprune.schema.recipe import RoundingMethod
from edgeprune.schema.report import RunReport
from edgeprune.schema.run import RunManifest
from edgeprune.tui.sourced import Source

__all__ = [
    "STAGES",
    "ChatTurn",
    "Draft",
    "ModelOption",
    "NamedProfile",
    "RunRecords",
    "StageState",
    "StageView",
    "View",
    "best_front",
    "source",
]

STAGES = ("intake", "profile", "calibrate", "baselines", "search", "refine", "compress", "export", "validate", "report")
"""The stages of a whole run, in order; a job of fewer stages shows those it told of."""

StageState = Literal["waiting", "running", "done", "skipped", "failed"]


@dataclass(frozen=True)
class StageView:
    """One stage of the followed job."""

    name: str
    state: StageState = "waiting"
    message: str = ""
    done_fraction: float | None = None
    remaining_s: float | None = None
    started_s: float | None = None
    """Seconds since the epoch; None where the events do not tell."""
    finished_s: float | None = None


@dataclass(frozen=True)
class Draft:
    """What the user has chosen so far, as written; `draft` turns it into requests."""

    model: str | None = None
    """Folder or hub id; None: the demo model that ships with EdgePrune."""
    is_model_chosen: bool = False
    domain: str = "medicine"
    """A domain of the demo, or a path of texts."""
    device: str | None = None
    """Profile by name; None measures this device."""
    limits: tuple[tuple[str, str], ...] = ()
    """Quantity -> text as typed, such as `disk` -> `2.4MB`; without those left empty."""
    context: str = ""
    locks: tuple[Lock, ...] = ()
    evaluations: str = "12"
    kv_bits: Literal[8, 32] = 32
    rounding: RoundingMethod = "gptq"
    uniform_kv: bool = False
    last_logits: bool = False
    """The form of what is chosen, as `RunRequest` has it; no screen asks, a run that is opened brings its own."""

    def limit(self, quantity: str) -> str:
        """The text of one limit; empty when it is not limited."""
        return dict(self.limits).get(quantity, "")


@dataclass(frozen=True)
class NamedProfile:
    """One device profile that can be chosen."""

    name: str
    is_saved: bool
    """False: it came with EdgePrune."""
    profile: DeviceProfile


@dataclass(frozen=True)
class ModelOption:
    """One model that is at hand without a download."""

    name: str
    """As a request names it; empty for the demo model."""
    where: str
    """Such as `ships with EdgePrune` or `hub cache`."""
    size_bytes: int | None
    """Bytes of its weight files; None when they cannot be told."""


@dataclass(frozen=True)
class ChatTurn:
    """One question, and what each bundle answered; None while it is not there yet."""

    prompt: str
    answers: tuple[tuple[str, GeneratedText | None], ...]
    """Bundle's label -> answer."""


@dataclass(frozen=True)
class RunRecords:
    """What stands in the run folder; None for what is not written yet."""

    manifest: RunManifest | None = None
    device: DeviceProfile | None = None
    model: ModelSpec | None = None
    front: SearchResult | None = None
    bundle: BundleManifest | None = None
    validation: ValidationReport | None = None
    report: RunReport | None = None


@dataclass(frozen=True)
class View:
    """The whole state of the app."""

    is_connected: bool = False
    has_listed: bool = False
    """Whether the jobs were listed once."""
    jobs: tuple[Job, ...] = ()
    """Oldest first."""
    followed: str | None = None
    """Id of the job whose events are shown."""
    stages: tuple[StageView, ...] = ()
    """Of the followed job."""
    notes: tuple[str, ...] = ()
    """What the followed job noted, one sentence each."""
    last_sequence: int = 0
    """Of the followed job's events; what is not above it was seen already."""
    run_folder: str | None = None
    records: RunRecords = field(default_factory=RunRecords)
    draft: Draft = field(default_factory=Draft)
    profiles: tuple[NamedProfile, ...] = ()
    models: tuple[ModelOption, ...] = ()
    meters: tuple[Meters, ...] = ()
    """The last minute, oldest first."""
    fit: FitReport | None = None
    plan: PlanReport | None = None
    explanation: Explanation | None = None
    solved: SearchResult | None = None
    """For the draft's limits, solved again from the run's scores; None before the first."""
    is_solving: bool = False
    chat: tuple[ChatTurn, ...] = ()
    log: str = ""
    """Of the followed job."""
    report_text: str | None = None
    """report.md of the run."""
    sentence: str = ""
    """What was last said to the user."""
    is_problem: bool = False
    """Whether that sentence tells of something that went wrong."""

    def job(self, job_id: str | None) -> Job | None:
        """The job of that id; None when it is not known."""
        return next((job for job in self.jobs if job.id == job_id), None)

    def stage(self, name: str) -> StageView | None:
        """A stage of the followed job."""
        return next((stage for stage in self.stages if stage.name == name), None)


_FILES = {
    "manifest": "manifest.json",
    "device": "device.json",
    "model": "model.json",
    "front": "front.json",
    "bundle": "bundle/edgeprune.json",
    "validation": "validation.json",
    "report": "report.json",
}


def source(view: View, name: str) -> Source:
    """A record of the view with its id; a missing record gives missing figures.

    Args:
        view: the state.
        name: a field of `RunRecords`, or `solved`, `meters`, `fit`, `plan`, `explanation`.
    """
    if name in _FILES:
        return Source(_FILES[name], getattr(view.records, name))
    if name == "meters":
        return Source("meters (live)", view.meters[-1] if view.meters else None)
    return Source({"solved": "solved again (not written)"}.get(name, f"{name} (job)"), getattr(view, name))


def best_front(view: View) -> Source:
    """The result to show: what was solved again for the draft, otherwise what the run's search wrote."""
    return source(view, "solved") if view.solved is not None else source(view, "front")
