"""What can happen to the app: the complete protocol between the feed's threads, the screens and `reduce`.

Past tense, frozen, no textual. `Told` in `feed` carries them to the event loop.
"""

from dataclasses import dataclass

from edgeprune.schema.candidate import SearchResult
from edgeprune.schema.explanation import Explanation
from edgeprune.schema.fit import FitReport
from edgeprune.schema.generation import GeneratedText
from edgeprune.schema.jobs import Job, JobEvent
from edgeprune.schema.lock import Lock
from edgeprune.schema.meters import Meters
from edgeprune.schema.plan import PlanReport
from edgeprune.tui.view_state import ModelOption, NamedProfile, RunRecords

__all__ = [
    "ChatAnswered",
    "ChatAsked",
    "Connected",
    "ContextChanged",
    "DeviceChosen",
    "DomainChanged",
    "EvaluationsChanged",
    "EventArrived",
    "Explained",
    "Fitted",
    "Followed",
    "JobsListed",
    "LimitChanged",
    "LocksChanged",
    "LogRead",
    "Message",
    "Metered",
    "ModelChosen",
    "ModelsListed",
    "Planned",
    "ProfilesListed",
    "RecordsRead",
    "Said",
    "Solved",
    "SolvingStarted",
]


@dataclass(frozen=True)
class Connected:
    """The client answers."""


@dataclass(frozen=True)
class JobsListed:
    """The jobs as they stand, oldest first."""

    jobs: tuple[Job, ...]


@dataclass(frozen=True)
class Followed:
    """From now on this job's events are shown; None follows none."""

    job_id: str | None
    run_folder: str | None = None
    """Folder to show; None keeps the one that is shown."""


@dataclass(frozen=True)
class EventArrived:
    """A job told something."""

    job_id: str
    entry: JobEvent


@dataclass(frozen=True)
class RecordsRead:
    """The run folder's records, those that changed and those that did not."""

    folder: str
    records: RunRecords
    report_text: str | None


@dataclass(frozen=True)
class Metered:
    """The machine was looked at."""

    meters: Meters


@dataclass(frozen=True)
class ProfilesListed:
    """Profiles that can be chosen."""

    profiles: tuple[NamedProfile, ...]


@dataclass(frozen=True)
class ModelsListed:
    """Models at hand."""

    models: tuple[ModelOption, ...]


@dataclass(frozen=True)
class ModelChosen:
    """The user chose a model; None is the demo that ships."""

    model: str | None


@dataclass(frozen=True)
class DomainChanged:
    """The user named a domain."""

    domain: str


@dataclass(frozen=True)
class DeviceChosen:
    """The user chose a profile; None measures this device."""

    device: str | None


@dataclass(frozen=True)
class LimitChanged:
    """The user wrote a limit; empty lifts it."""

    quantity: str
    text: str


@dataclass(frozen=True)
class ContextChanged:
    """The user wrote a context."""

    text: str


@dataclass(frozen=True)
class EvaluationsChanged:
    """The user wrote how many recipes to build."""

    text: str


@dataclass(frozen=True)
class LocksChanged:
    """The user locked or unlocked something."""

    locks: tuple[Lock, ...]


@dataclass(frozen=True)
class SolvingStarted:
    """The draft's limits are being solved for."""


@dataclass(frozen=True)
class Solved:
    """They were; None when a newer question took over."""

    result: SearchResult | None


@dataclass(frozen=True)
class Fitted:
    """A fit job ended."""

    report: FitReport


@dataclass(frozen=True)
class Planned:
    """A plan job ended."""

    report: PlanReport


@dataclass(frozen=True)
class Explained:
    """An explain job ended."""

    explanation: Explanation


@dataclass(frozen=True)
class ChatAsked:
    """The user asked the bundles something."""

    prompt: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class ChatAnswered:
    """A bundle answered the last question."""

    label: str
    answer: GeneratedText


@dataclass(frozen=True)
class LogRead:
    """What a job's processes wrote to stderr."""

    text: str


@dataclass(frozen=True)
class Said:
    """A sentence for the user; a problem tells what happened, where, and what to do."""

    sentence: str
    is_problem: bool = False


Message = (
    Connected
    | JobsListed
    | Followed
    | EventArrived
    | RecordsRead
    | Metered
    | ProfilesListed
    | ModelsListed
    | ModelChosen
    | DomainChanged
    | DeviceChosen
    | LimitChanged
    | ContextChanged
    | EvaluationsChanged
    | LocksChanged
    | SolvingStarted
    | Solved
    | Fitted
    | Planned
    | Explained
    | ChatAsked
    | ChatAnswered
    | LogRead
    | Said
)
