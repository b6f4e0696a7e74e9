"""The least any recipe of a model could cost on a device, from headers alone.

A bound, not a recipe: half of the blocks gone, a quarter of the channels and 256 tokens left, every site at the lowest
rank and the cheapest kernel there is, and of every range the lower end, each quantity apart. What exceeds a limit even
so cannot fit.
"""

from collections.abc import Callable

from msgspec.structs import replace

from edgeprune.pipeline.settings import KERNELS
from edgeprune.predict.cost import CostModel
from edgeprune.predict.price import Price
from edgeprune.schema.budget import Budget
from edgeprune.schema.model import SITE_FORMS, BlockSpec, SiteSpec

__all__ = ["Least", "cannot_meet", "least_cost"]

CHANNEL_STEP = 32
LEAST_RANK = 8
"""The first step of the shortest ladder of ranks."""
LEAST_TOKENS = 256
"""The bytes: a trimmed byte-level vocabulary keeps them."""

Least = dict[str, float | None]
"""Quantity (`memory`, `latency`, `disk`) -> lower bound in bytes or seconds; None where nothing can be predicted."""


def least_cost(model: CostModel) -> Least:
    """Lower bounds of peak memory, seconds per token and bytes on disk over every recipe of the model."""
    spec = model.dense
    kernels = [kernel for kernel in KERNELS if model.timed_kernels is None or kernel in model.timed_kernels]
    tables = [model.table_price(vocab_size=min(spec.vocab_size, LEAST_TOKENS), kernel=kernel) for kernel in kernels]
    blocks = sorted(spec.blocks, key=lambda block: sum(site.in_features * site.out_features for site in block.sites))
    kept = blocks[: len(blocks) - max(0, min(len(blocks) // 2, len(blocks) - 2))]

    def total(of: Callable[[Price], float | None]) -> float | None:
        parts = [of(model.fixed_price()), _least(of, tables)]
        for block in kept:
            parts.append(of(model.block_price(_narrow_block(block))))
            parts += [_least(of, _forms(model, site, kernels)) for site in block.sites]
        known = [part for part in parts if part is not None]
        return sum(known) if len(known) == len(parts) else None

    added = total(lambda price: price.running_memory.low)
    times = [total(_decode_low), total(_cached_decode_low)]
    known_times = [time for time in times if time is not None]
    return {
        "memory": None if added is None or model.floor_bytes is None else model.floor_bytes + added,
        "latency": min(known_times) if len(known_times) == len(times) else None,
        "disk": total(lambda price: float(price.disk_bytes)),
    }


def cannot_meet(least: Least, budget: Budget) -> tuple[str, ...]:
    """Limits that no recipe can meet."""
    limits = {"memory": budget.memory_bytes, "latency": budget.latency_s, "disk": budget.disk_bytes}
    return tuple(
        name
        for name, limit in limits.items()
        if limit is not None and (bound := least[name]) is not None and bound > limit
    )


def _decode_low(price: Price) -> float | None:
    found = price.decode_s(0.0)
    return None if found is None else found.low


def _cached_decode_low(price: Price) -> float | None:
    found = price.decode_s(1.0)
    return None if found is None else found.low


def _least(of: Callable[[Price], float | None], prices: list[Price]) -> float | None:
    known = [value for price in prices if (value := of(price)) is not None]
    return min(known, default=None)


def _forms(model: CostModel, site: SiteSpec, kernels: list[str]) -> list[Price]:
    narrow = _narrow_site(site)
    ranks: list[int | None] = [None]
    if min(narrow.in_features, narrow.out_features) > LEAST_RANK:
        ranks.append(LEAST_RANK)
    forms = [replace(narrow, form=form) for form in SITE_FORMS]
    return [model.site_price(form, kernel=kernel, rank=rank) for kernel in kernels for rank in ranks for form in forms]


def _narrow_site(site: SiteSpec) -> SiteSpec:
    if site.role in ("gate", "up"):
        return replace(site, out_features=_channels(site.out_features))
    if site.role == "down":
        return replace(site, in_features=_channels(site.in_features))
    return site


def _narrow_block(block: BlockSpec) -> BlockSpec:
    return replace(block, intermediate_size=_channels(block.intermediate_size))


def _channels(count: int) -> int:
    """The fewest channels calibration scores."""
    return min(count, max(CHANNEL_STEP, count // 4 // CHANNEL_STEP * CHANNEL_STEP))
