"""`RunRequest`, `RunManifest` and `RunOutcome`: what a run was asked for, what it was made from, how it ended."""

from typing import Literal

import msgspec

from edgeprune.schema.base import SCHEMA_VERSION, Record, Verdict
from edgeprune.schema.budget import DECODE_TOKENS, BudgetRequest
from edgeprune.schema.candidate import SearchResult
from edgeprune.schema.emulation import Emulation
from edgeprune.schema.laser import LaserReport
from edgeprune.schema.lock import Lock
from edgeprune.schema.recipe import Recipe, RoundingMethod
from edgeprune.schema.recovery import RecoveryRequest
from edgeprune.schema.report import RunReport

__all__ = [
    "CompressOutcome",
    "HostNeeds",
    "LaserOutcome",
    "RunManifest",
    "RunOutcome",
    "RunPreview",
    "RunRequest",
    "StageRecord",
]


class RunRequest(Record, frozen=True, kw_only=True):
    """Everything that decides what a run does; paths are kept as given, made absolute."""

    model: str | None = None
    """Folder or hub id; None runs the demo model that ships with the package."""
    device: str | None = None
    """Name of a saved or shipped profile, or a path; None measures this device."""
    budget: BudgetRequest = BudgetRequest()
    context_tokens: int | None = None
    """None: the smaller of 512 and the model's positions."""
    decode_tokens: int = DECODE_TOKENS
    """Generated at the end of the context, after a prompt that fills the rest."""
    domain: tuple[str, ...] = ()
    """None given: the demo's own domain text for the demo model, otherwise an error."""
    general: tuple[str, ...] = ()
    """None given: the model writes its own."""
    evaluation: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    """Texts of other fields, measured to say what was forgotten; nothing is calibrated or selected on them."""
    questions: str | None = None
    thread_count: int | None = None
    execution_provider: str = "cpu"
    """`cpu` or `cuda`."""
    seed: int = 0
    quick: bool = False
    """Profile with `--quick`."""
    emulation: Emulation | None = None
    """Profile and validate as a smaller device; None takes this one as it is."""
    locks: tuple[Lock, ...] = ()
    """Choices the search may not change."""
    evaluations: int = 12
    """Recipes at most that the search builds and measures; 0 takes the predictions as they are."""
    recipe: str | None = None
    """A recipe file that is run as written, whatever the search would choose."""
    recovery: RecoveryRequest | None = None
    """Training of what the search chooses; None trains nothing."""
    kv_bits: Literal[8, 32] = 32
    """Bits of a cached key or value in what the search chooses."""
    rounding: RoundingMethod = "gptq"
    """How the weights of what the search chooses become integers, and those of the bundles it is compared with."""
    uniform_kv: bool = False
    """Keep to what optimum's ORTModelForCausalLM loads: no key-value groups leave."""
    last_logits: bool = False
    """Bundles give the logits after the last token of a prompt alone."""
    activation_bits: Literal[16, 32] = 32
    """What bundles compute in; with 16 their float weights and their cache have as many."""
    worker_count: int = 1
    """Processes that independent work runs in; 1 is this process. No result depends on it, nor on `cluster`."""
    cluster: str | None = None
    """Address of a Dask scheduler whose workers do that work instead."""
    max_host_memory_bytes: int | None = None
    """Refused where more is predicted, unless fewer processes need less; None asks for what is free."""


class StageRecord(Record, frozen=True, kw_only=True):
    """One finished stage."""

    stage: str
    key: str
    """sha256 over everything the stage's result depends on; a different key runs the stage again."""
    outputs: dict[str, str]
    """Path inside the run folder -> sha256 of its content."""
    took_s: float
    finished_at: str


class RunManifest(Record, frozen=True, kw_only=True):
    """`manifest.json`; its presence marks a folder as a run of ours."""

    schema_version: int = SCHEMA_VERSION
    tool: str = "edgeprune"
    request: RunRequest
    model_hash: str | None = None
    general_source: str | None = None
    versions: dict[str, str] = msgspec.field(default_factory=dict)
    stages: tuple[StageRecord, ...] = ()


class HostNeeds(Record, frozen=True, kw_only=True):
    """What the work will need on this machine, predicted before it starts."""

    memory_bytes: int
    disk_bytes: int
    free_memory_bytes: int | None
    free_disk_bytes: int | None


class RunPreview(Record, frozen=True, kw_only=True):
    """What `--dry-run` answers."""

    schema_version: int = SCHEMA_VERSION
    folder: str
    model_name: str
    parameter_count: int
    context_tokens: int
    needs: HostNeeds
    stages: dict[str, str]
    """Stage -> `run` or `finished`."""


class RunOutcome(Record, frozen=True, kw_only=True):
    """How a run ended."""

    schema_version: int = SCHEMA_VERSION
    verdict: Verdict
    folder: str
    report: RunReport | None = None
    """None when the search found nothing that fits."""
    search: SearchResult | None = None
    message: str = ""


class CompressOutcome(Record, frozen=True, kw_only=True):
    """A compressed model written in Hugging Face layout."""

    schema_version: int = SCHEMA_VERSION
    folder: str
    kept_fraction: float
    """Stored parameters / the dense model's, tied tables once."""
    recipe: Recipe


class LaserOutcome(Record, frozen=True, kw_only=True):
    """What LASER's search found, and the model it was applied to."""

    schema_version: int = SCHEMA_VERSION
    folder: str | None
    """Hugging Face layout; None where none was asked for."""
    recipe: Recipe
    laser: LaserReport
