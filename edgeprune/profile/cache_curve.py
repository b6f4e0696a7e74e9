"""How much of a working set stays in the caches, measured: chains of one kind of site that grow past the last level.

A last-level cache is shared with whatever else runs, on rented machines with strangers, and what of it is there for
us is less than what the system tells. A chain's time a site rises from that with all weights in cache to that with
none; where it stands in between is the share that is read from memory.
"""

from collections.abc import Callable, Mapping, Sequence

from edgeprune.profile.bound_graph import BoundGraph
from edgeprune.profile.kernel_plan import Shape, resident_estimate
from edgeprune.profile.rounds import quiet_times
from edgeprune.runtime.probe_graph_sites import site_chain
from edgeprune.schema.device import CachePoint

__all__ = ["cache_curve", "cached_bytes", "measure_cache_curve"]

_KERNEL = "int8_b32_a4"
"""Between four bits, which read slower than memory delivers, and 32, which do nothing but read."""
_SHAPE: Shape = (256, 704)
_PARTS = (0.125, 0.25, 0.375, 0.5, 0.75, 1.0, 1.5)
"""Working sets in parts of the last-level cache; the last is taken to be all in memory."""
_FEWEST_SITES = 4
_LEAST_RISE = 1.15
"""Where memory is not slower than the cache by this, there is no share to tell."""
_HELD = 0.9


def measure_cache_curve(
    cache_bytes: int | None,
    *,
    thread_count: int,
    round_count: int,
    most_bytes: int,
    before: Callable[[], None] | None = None,
) -> dict[int, float]:
    """Seconds of a site in chains that grow, by their bytes, over `cache_bytes` as the system tells of the last level.

    Empty where the system does not tell, the cache is too small for the chains, or they would take more than
    `most_bytes` together.
    """
    if cache_bytes is None:
        return {}
    site_bytes = resident_estimate(_KERNEL, _SHAPE, None)
    counts = [round(cache_bytes * part / site_bytes) for part in _PARTS]
    if counts[0] < _FEWEST_SITES or sum(counts) * site_bytes > most_bytes:
        return {}
    graphs = []
    for count in counts:
        if before is not None:
            before()
        chain = site_chain(_KERNEL, in_features=_SHAPE[0], out_features=_SHAPE[1], site_count=count)
        graphs.append(BoundGraph(chain, thread_count=thread_count))
        graphs[-1].bind_rows(1)
    times = quiet_times(graphs, round_count=round_count)
    return {count * site_bytes: time / count for time, count in zip(times, counts, strict=True)}


def cache_curve(passes: Sequence[Mapping[int, float]]) -> tuple[CachePoint, ...]:
    """Cached shares of working sets from the seconds of a site in each, the least of several measurements.

    The largest set is taken to be all in memory; a larger one never has a larger share. Empty where memory is as fast
    as the cache.
    """
    least_s = {size: min(times[size] for times in passes) for size in sorted(passes[0])}
    if not least_s:
        return ()
    least, most = min(least_s.values()), list(least_s.values())[-1]
    if most < _LEAST_RISE * least:
        return ()
    points: list[CachePoint] = []
    share = 1.0
    for size, time in least_s.items():
        share = min(share, max(0.0, (most - time) / (most - least)))
        points.append(CachePoint(working_set_bytes=size, cached_fraction=share))
    return tuple(points)


def cached_bytes(curve: Sequence[CachePoint]) -> int | None:
    """Largest measured working set of which nine tenths stay in cache, at least the smallest; None without a curve."""
    held = [point.working_set_bytes for point in curve if point.cached_fraction >= _HELD]
    return max((*held, curve[0].working_set_bytes)) if curve else None
