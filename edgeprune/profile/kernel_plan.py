"""Which chains of sites to time: kernels, shapes, ranks, rows and lengths, dearest to the prediction first.

A chain timed with cached weights is longer than the second-level caches and shorter than the last one: that is how a
small model runs. One that streams exceeds the last level by half: that is how a model larger than the cache decodes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from edgeprune.schema.kernel import parse_kernel, stored_bytes

__all__ = [
    "ALL_KERNELS",
    "QUICK_KERNELS",
    "ChainGroup",
    "Shape",
    "cached_length",
    "default_groups",
    "quick_groups",
    "resident_estimate",
    "streaming_length",
]

Shape = tuple[int, int]
"""in_features, out_features."""

ALL_KERNELS = (
    "fp32",
    "int8_b32_a4",
    "int4_b32_a4",
    "dynamic_int8",
    "int4_b128_a4",
    "int8_b128_a4",
    "int4_b64_a4",
    "int8_b64_a4",
    "fp16",
    "int4_b32_a0",
    "int8_b32_a0",
    "int4_b64_a0",
    "int4_b128_a0",
    "int8_b64_a0",
    "int8_b128_a0",
)
QUICK_KERNELS = ALL_KERNELS[:5]

_DEFAULT_SHAPES: tuple[Shape, ...] = (
    (256, 704),
    (768, 2048),
    (256, 256),
    (768, 768),
    (128, 128),
    (512, 512),
    (2048, 2048),
)
_QUICK_SHAPES: tuple[Shape, ...] = ((256, 704), (768, 2048))
_DEFAULT_RANKS: tuple[tuple[Shape, int], ...] = (
    ((256, 704), 96),
    ((768, 2048), 256),
    ((512, 512), 128),
    ((256, 256), 64),
)
_STREAMING_SMALL: Shape = (256, 704)
_STREAMING_LARGE: Shape = (768, 2048)
"""What streaming adds has a part that does not shrink with the site. The user's largest shape, mostly the head,
replaces the latter, and sites between the two are timed as well: between points as far apart as 256 x 704 and a head
of 768 x 32,000 a power of the weights says a fifth too much."""

_CACHE_BYTES = 8 << 20
"""Assumed last-level cache where the system does not tell; more than most boards have, so chains stay short."""
_CHAIN_BYTES = 12 << 20
_MOST_SITES = 512


@dataclass(frozen=True)
class ChainGroup:
    """One shape (and rank) to be timed under all kernels in turn."""

    shape: Shape
    rank: int | None
    rows: int
    is_cached: bool
    is_essential: bool = False
    """Measured even when the time is spent: a table without it predicts nothing."""
    kernels: tuple[str, ...] = ALL_KERNELS
    """Those it is worth the time for."""


_STREAMING_SMALL_GROUP = ChainGroup(_STREAMING_SMALL, None, 1, False, kernels=QUICK_KERNELS)


def default_groups(shapes: Sequence[Shape]) -> tuple[ChainGroup, ...]:
    """The user's shapes, then the default grid, two factors and streaming chains."""
    own = tuple(dict.fromkeys(shapes))
    grid = own + tuple(shape for shape in _DEFAULT_SHAPES if shape not in own)
    largest = max(own, key=lambda shape: shape[0] * shape[1], default=_STREAMING_LARGE)
    dense = [ChainGroup(shape, None, rows, True, rows < 512) for shape in own for rows in (1, 128, 512)]
    dense += [
        ChainGroup(shape, None, rows, True, shape in _QUICK_SHAPES)
        for rows in (1, 128)
        for shape in grid
        if shape not in own
    ]
    factored, factored_batches = (
        [ChainGroup(shape, rank, rows, True) for shape, rank in _ranks(own)] for rows in (1, 128)
    )
    streaming = [ChainGroup(largest, None, 1, False)]
    if largest != _STREAMING_SMALL:
        streaming.insert(0, _STREAMING_SMALL_GROUP)
    streaming += [ChainGroup(shape, None, 1, False, kernels=QUICK_KERNELS) for shape in _between(own, largest)]
    batches = [ChainGroup(shape, None, 512, True) for shape in grid if shape not in own]
    return (*dense, *streaming, *factored, *factored_batches, *batches)


def quick_groups(shapes: Sequence[Shape]) -> tuple[ChainGroup, ...]:
    """The user's shapes and two of the grid, at one and 128 rows."""
    grid = tuple(dict.fromkeys((*shapes, *_QUICK_SHAPES)))
    dense = [ChainGroup(shape, None, rows, True, True) for rows in (1, 128) for shape in grid]
    streaming = (ChainGroup(_STREAMING_LARGE, None, 1, False), _STREAMING_SMALL_GROUP)
    return (*dense, ChainGroup((256, 704), 96, 1, True), *streaming)


def _between(own: Sequence[Shape], largest: Shape) -> list[Shape]:
    """Sites between the small streaming shape and the largest, one of each number of weights, the most first."""
    least, most = (shape[0] * shape[1] for shape in (_STREAMING_SMALL, largest))
    sizes = {shape[0] * shape[1]: shape for shape in reversed(own) if _may_be_site(shape)}
    return [sizes[size] for size in sorted(sizes, reverse=True) if least < size < most]


def _may_be_site(shape: Shape) -> bool:
    """A vocabulary head is far wider than any rank pays for; it is never factored."""
    return max(shape) <= 8 * min(shape)


def _ranks(own: Sequence[Shape]) -> tuple[tuple[Shape, int], ...]:
    """Two-factor shapes: for the user's own, a multiple of 32 near half of the break-even rank."""
    chosen = list(_DEFAULT_RANKS)
    for shape in own:
        rank = shape[0] * shape[1] // (2 * sum(shape)) // 32 * 32
        if rank >= 32 and _may_be_site(shape) and (shape, rank) not in chosen:
            chosen.insert(0, (shape, rank))
    return tuple(chosen)


def resident_estimate(kernel: str, shape: Shape, rank: int | None) -> int:
    """About what one site occupies once prepared: half precision is widened, packed blocks gain sums and padding."""
    parts = (shape,) if rank is None else ((shape[0], rank), (rank, shape[1]))
    stored = sum(stored_bytes(kernel, in_features=part[0], out_features=part[1]) for part in parts)
    parsed = parse_kernel(kernel)
    if parsed.kind == "float":
        return stored * 32 // parsed.bits
    return stored * 5 // 4


def cached_length(
    kernel: str, group: ChainGroup, cache_bytes: int | None, *, held_bytes: int | None = None
) -> int | None:
    """Sites of a chain whose weights stay in the last-level cache; None when not even one site's do.

    `held_bytes` is the largest working set that was seen to stay; None takes seven tenths of `cache_bytes`.
    """
    site_bytes = resident_estimate(kernel, group.shape, group.rank)
    most = (held_bytes or (cache_bytes or _CACHE_BYTES) * 7 // 10) // site_bytes
    if group.rows > 1:
        # Many rows reuse each weight: streaming it costs little beside the multiplications, so size is no matter.
        work = 2 * group.rows * group.shape[0] * group.shape[1]
        return max(1, min(8, 200_000_000 // work))
    if most < 1:
        return None
    return max(1, min(most, 48, max(4, _CHAIN_BYTES // site_bytes)))


def streaming_length(kernel: str, group: ChainGroup, cache_bytes: int | None, most_bytes: int) -> int | None:
    """Sites of a chain that exceeds the last-level cache by half; None when that takes too much memory or too many."""
    site_bytes = resident_estimate(kernel, group.shape, group.rank)
    count = -(-(cache_bytes or _CACHE_BYTES) * 3 // 2 // site_bytes)
    if count > _MOST_SITES or count * site_bytes > most_bytes:
        return None
    return max(2, count)
