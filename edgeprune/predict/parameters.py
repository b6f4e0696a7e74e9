"""`ParameterCost`: prices in stored parameters alone, for a size that is asked for as a fraction of them.

Stands in for `CostModel` where no device is meant: every size is four bytes a stored parameter, whatever the kernel,
and times and memory are not predicted. With only float32 on offer, bytes and parameters are one limit.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from edgeprune.predict.price import Price
from edgeprune.schema.estimate import Cost, Estimate
from edgeprune.schema.kernel import FLOAT32
from edgeprune.schema.model import BlockSpec, ModelSpec, SiteSpec
from edgeprune.schema.recipe import Recipe
from edgeprune.shapes import block_parameter_count, edit_shapes, repair_parameter_count, site_parameter_count

__all__ = ["PARAMETER_BYTES", "ParameterCost"]

PARAMETER_BYTES = 4
"""Of a float32 value."""
_UNKNOWN = Estimate(value=None)


class ParameterCost:
    """Sizes of one model's pieces."""

    floor_bytes: int | None = None

    def __init__(self, dense: ModelSpec) -> None:
        """Name the model."""
        self.dense = dense
        self._prices: dict[int, Price] = {}

    @property
    def timed_kernels(self) -> frozenset[str] | None:
        """Float32 alone: any other kernel would not change the number of parameters."""
        return frozenset({FLOAT32})

    def cached_fraction(self, working_set_bytes: int) -> float:
        """No cache is known."""
        return 0.0

    def working_set_limit(self, cached_fraction: float) -> float | None:
        """No cache is known."""
        return None if cached_fraction <= 0.0 else 0.0

    def site_price(self, site: SiteSpec, *, kernel: str, rank: int | None) -> Price:
        """One site, stored in its own form at that rank."""
        return self._price(site_parameter_count(replace(site, rank=rank)))

    def block_price(self, block: BlockSpec) -> Price:
        """A kept block without its sites: its norms."""
        return self._price(block_parameter_count(block) - sum(map(site_parameter_count, block.sites)))

    def repair_price(self, ranks: Sequence[int]) -> Price:
        """Affine operators of these ranks in the place of dropped parts."""
        return self._price(sum(repair_parameter_count(self.dense.hidden_size, rank) for rank in ranks))

    def table_price(self, *, vocab_size: int, kernel: str) -> Price:
        """Embedding and head."""
        return self._price(vocab_size * self.dense.hidden_size * (1 if self.dense.is_tied else 2))

    def fixed_price(self) -> Price:
        """Final norm and positions."""
        spec = self.dense
        return self._price(spec.final_norm_parameter_count + spec.position_parameter_count)

    def cost(self, recipe: Recipe) -> Cost:
        """A whole recipe; what needs a device is not predicted.

        Raises:
            UsageError: the recipe does not fit the model.
        """
        count = edit_shapes(self.dense, recipe).parameter_count
        return Cost(
            disk_bytes=PARAMETER_BYTES * count,
            weights_bytes=PARAMETER_BYTES * count,
            kv_cache_bytes=0,
            activation_bytes=0,
            resident_weights_bytes=_UNKNOWN,
            model_memory_bytes=_UNKNOWN,
            peak_rss_bytes=_UNKNOWN,
            decode_s=_UNKNOWN,
            prefill_s=_UNKNOWN,
            parameter_count=count,
        )

    def _price(self, count: int) -> Price:
        """Equal sizes share a price: the search compares columns by what they are priced at."""
        if count not in self._prices:
            size = PARAMETER_BYTES * count
            self._prices[count] = Price(disk_bytes=size, weights_bytes=size, parameter_count=count)
        return self._prices[count]
