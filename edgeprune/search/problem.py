"""What a search is given: prices, losses and limits, as Protocols so that no other stage is imported.

`edgeprune.predict` has the implementations; the pipeline plugs them in.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from edgeprune.schema.budget import DECODE_TOKENS, Budget
from edgeprune.schema.estimate import Cost
from edgeprune.schema.lock import Lock
from edgeprune.schema.model import BlockSpec, ModelSpec, SiteForm, SiteSpec
from edgeprune.schema.recipe import Drops, RankMethod, Recipe
from edgeprune.schema.scores import Scores

__all__ = ["AccuracyModel", "CostModel", "Limits", "Price", "Problem", "QualityModel"]


class Price(Protocol):
    """What one piece of a recipe adds; upper ends of the predicted ranges, so that a met limit has its margin."""

    @property
    def disk_bytes(self) -> int:
        """Bytes of the bundle."""

    @property
    def working_set_bytes(self) -> int:
        """Bytes read to decode one token."""

    @property
    def loading_high_bytes(self) -> float:
        """Model memory at the loading peak."""

    @property
    def running_high_bytes(self) -> float:
        """Model memory while running."""

    @property
    def device_bytes(self) -> float:
        """Memory of an accelerator that its tensors take, at least."""

    def decode_high_s(self, cached_fraction: float) -> float | None:
        """Seconds per token; linear in the cached fraction; None when the device does not tell."""

    def prefill_high_s(self, cached_fraction: float) -> float | None:
        """Seconds for the prompt; linear in the cached fraction; None when the device does not tell."""


class CostModel(Protocol):
    """Prices of pieces and of whole recipes."""

    @property
    def floor_bytes(self) -> int | None:
        """Peak memory of the runtime without a model; None when the profile lacks it."""

    @property
    def timed_kernels(self) -> frozenset[str] | None:
        """Kernels the device has timed; None when it timed none, so that any may be estimated."""

    def cost(self, recipe: Recipe) -> Cost:
        """A whole recipe."""

    def fixed_price(self) -> Price:
        """What every recipe pays."""

    def table_price(self, *, vocab_size: int, kernel: str) -> Price:
        """Embedding and head."""

    def block_price(self, block: BlockSpec) -> Price:
        """A kept block without its sites."""

    def site_price(self, site: SiteSpec, *, kernel: str, rank: int | None) -> Price:
        """One site in one form."""

    def repair_price(self, ranks: Sequence[int]) -> Price:
        """Operators of these ranks in the place of dropped parts."""

    def cached_fraction(self, working_set_bytes: int) -> float:
        """Share of the weights that stays in the last-level cache."""

    def working_set_limit(self, cached_fraction: float) -> float | None:
        """Largest working set with at least that cached fraction; None when any has it."""


class QualityModel(Protocol):
    """Predicted losses, nats per token added to the dense model's; None where an edit was not scored."""

    @property
    def dense_loss_nats(self) -> float:
        """The dense model's loss."""

    def kernel_loss(self, site: str, kernel: str, *, form: SiteForm | None = None) -> float | None:
        """A site, dense or in a form of low rank, or `table`, under a kernel."""

    def best_rank_method(self, site: str, rank: int) -> tuple[RankMethod, float] | None:
        """The method that loses least at a rank, and its loss."""

    def rank_loss(self, site: str, rank: int, method: RankMethod) -> float | None:
        """A site at a rank by one method."""

    def channel_loss(self, block: int, kept_count: int) -> float | None:
        """A block with fewer channels."""

    def group_loss(self, block: int, kept_count: int) -> float | None:
        """A block with fewer key-value groups."""

    def depth_loss(self, drops: Drops) -> float | None:
        """The model without these blocks and halves."""

    def vocabulary_loss(self, kept_count: int) -> float | None:
        """The model with fewer tokens."""

    def cache_loss(self, kv_bits: int) -> float | None:
        """A key-value cache of so many bits."""

    def loss_increase_nats(self, recipe: Recipe) -> float | None:
        """A whole recipe."""

    def relative_loss(self, loss_increase_nats: float) -> float:
        """Relative increase of bits-per-byte."""


class AccuracyModel(Protocol):
    """Expected share of right answers, from recipes that were really measured."""

    def accuracy(self, loss_increase_nats: float) -> float | None:
        """At a loss; None beyond the losses that were measured."""

    def largest_loss(self, accuracy: float) -> float | None:
        """Largest loss with at least that accuracy; None when none has it."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One search."""

    spec: ModelSpec
    scores: Scores
    cost_model: CostModel
    quality_model: QualityModel
    budget: Budget
    context_tokens: int
    seed: int
    decode_tokens: int = DECODE_TOKENS
    general_model: QualityModel | None = None
    """Losses on general text; None where they were not scored."""
    accuracy_model: AccuracyModel | None = None
    """None where no recipe's accuracy was measured."""
    cost_model_at: Callable[[int], CostModel | None] | None = None
    """Prices at another context length, None when that is too short; None when there are no others."""
    locks: tuple[Lock, ...] = ()
    """Taken into account wherever the space of choices is built."""
    rank_step: int | None = None
    """Ranks on offer are multiples of it; None offers those that devices are quick on."""
    rank_form: SiteForm | None = None
    """How ranks are stored; None offers both forms."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of one solve in the solver's own units; None is not limited."""

    memory_bytes: float | None = None
    """Total peak, floor included."""
    device_memory_bytes: float | None = None
    latency_s: float | None = None
    first_token_s: float | None = None
    disk_bytes: float | None = None
    loss_nats: float | None = None
    general_nats: float | None = None
    accuracy_nats: float | None = None
    """Largest loss at which enough questions are expected to be answered right."""
    cached_fraction: float = 0.0
    """Time is computed with this share of the weights in the last-level cache."""
    working_set_bytes: float | None = None
    """Largest working set that keeps that share there; a property of the device, never loosened."""
    excluded: tuple[tuple[int, ...], ...] = ()
    """Allocations, as columns, that are no answer; never loosened."""
