"""`ChoiceReport`: which of several models to take on which device, and whether pruning it is worth it."""

from typing import Literal

from edgeprune.schema.base import SCHEMA_VERSION, Basis, Record, Verdict
from edgeprune.schema.budget import DECODE_TOKENS, Budget, BudgetRequest
from edgeprune.schema.estimate import Cost
from edgeprune.schema.recipe import RoundingMethod

__all__ = ["ChoiceReport", "ChoiceRequest", "ChoiceRow", "DeviceChoice", "ModelStatus", "StatusKind"]

StatusKind = Literal["searched", "cannot_fit", "unsupported"]
"""`cannot_fit`: not even the smallest recipe would meet the limits on any device, by the headers alone."""


class ChoiceRequest(Record, frozen=True, kw_only=True):
    """Everything that decides what a choice does."""

    models: tuple[str, ...]
    """Folders, hub ids, or `demo`."""
    devices: tuple[str, ...] = ()
    """Profiles by name or path; none given measures this device. The first is the one recipes are built for."""
    budget: BudgetRequest = BudgetRequest()
    """The same absolute limits for every model; without any, the first device's usable memory."""
    context_tokens: int | None = None
    """None: the smaller of 512 and the positions of the model with the fewest."""
    decode_tokens: int = DECODE_TOKENS
    """As in `RunRequest`."""
    domain: tuple[str, ...] = ()
    general: tuple[str, ...] = ()
    evaluation: tuple[str, ...] = ()
    questions: str | None = None
    thread_count: int | None = None
    execution_provider: str = "cpu"
    seed: int = 0
    quick: bool = False
    """Profile with `--quick`."""
    evaluations: int | None = None
    """Recipes really built for each measured model to correct its search; None takes the default of `run`."""
    measure_count: int = 2
    """Models that are exported and measured here, the best predicted ones first."""
    kv_bits: Literal[8, 32] = 32
    rounding: RoundingMethod = "gptq"
    uniform_kv: bool = False
    """These three as in `RunRequest`, for every model."""


class ModelStatus(Record, frozen=True, kw_only=True):
    """What became of one candidate model."""

    model: str
    name: str
    """As rows call it; unique among the candidates."""
    status: StatusKind
    reason: str = ""
    parameter_count: int | None = None
    """Of the dense model; None where its headers could not be read."""
    folder: str | None = None
    """Its run folder; None where nothing was run."""


class ChoiceRow(Record, frozen=True, kw_only=True):
    """One form of one model on one device."""

    model: str
    label: str
    """`recipe`, `int8`, `int4` or `dense`."""
    is_pruned: bool
    """Whether blocks, channels, tokens or ranks were given up; bits alone are not pruning."""
    dense_parameter_count: int
    recipe_hash: str
    cost: Cost
    """Predicted."""
    fits: Verdict
    """Against the limits: as measured where it was measured on this device, as predicted elsewhere."""
    missed: tuple[str, ...] = ()
    """Limits that are not met."""
    bits_per_byte: float | None
    """On report text where measured, on selection text where predicted."""
    quality_basis: Basis
    accuracy: float | None = None
    """Share of the questions answered right, measured; None where it was not."""
    measured_peak_bytes: int | None = None
    measured_decode_s: float | None = None
    measured_disk_bytes: int | None = None


class DeviceChoice(Record, frozen=True, kw_only=True):
    """The ranking on one device."""

    device_name: str
    device_basis: Basis
    budget: Budget
    winner: ChoiceRow | None
    """None where no model fits."""
    ranking: tuple[ChoiceRow, ...]
    """The best fitting form of each model, best first."""
    rows: tuple[ChoiceRow, ...]
    """Every form of every model, in the order the models were given."""
    advice: tuple[str, ...] = ()
    """What follows, one sentence each."""


class ChoiceReport(Record, frozen=True, kw_only=True):
    """Outcome of one choice."""

    schema_version: int = SCHEMA_VERSION
    verdict: Verdict
    """`met` when some model fits the first device."""
    request: ChoiceRequest
    context_tokens: int
    recovery: str = "none"
    """Training after compression, the same for all candidates."""
    models: tuple[ModelStatus, ...]
    devices: tuple[DeviceChoice, ...]
    notes: tuple[str, ...] = ()
