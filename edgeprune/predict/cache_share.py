"""Which share of a model's weights stays in the last-level cache from one token to the next.

Takes a device profile. Where the profile has a measured curve the share is read from it, linear in the logarithm of
the working set; otherwise it falls linearly from half of the cache's size, as the system tells it, to one and a half.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

from edgeprune.schema.device import CachePoint, DeviceProfile

__all__ = ["CacheShare"]

CACHED_BELOW = 0.5
"""Working sets under half of the last-level cache stay in it."""
STREAMING_ABOVE = 1.5
"""Working sets beyond one and a half times the cache stream from memory; in between the share falls linearly."""


class CacheShare:
    """A share for each working set, and the largest working set for each share."""

    def __init__(self, device: DeviceProfile) -> None:
        """Take the measured curve, else the size of the last level."""
        self._curve: Sequence[CachePoint] = device.cache_curve
        self._cache_bytes = _last_level_cache(device)

    def fraction(self, working_set_bytes: float) -> float:
        """Share of the weights that stays, 0 to 1."""
        curve = self._curve
        if curve:
            if working_set_bytes <= curve[0].working_set_bytes:
                return curve[0].cached_fraction
            for first, second in pairwise(curve):
                if working_set_bytes <= second.working_set_bytes:
                    part = _position(working_set_bytes, first, second)
                    return first.cached_fraction + part * (second.cached_fraction - first.cached_fraction)
            return curve[-1].cached_fraction
        if self._cache_bytes is None:
            return 0.0
        ratio = working_set_bytes / self._cache_bytes
        return min(1.0, max(0.0, (STREAMING_ABOVE - ratio) / (STREAMING_ABOVE - CACHED_BELOW)))

    def limit(self, fraction: float) -> float | None:
        """Bytes of the largest working set with at least that share; None when any size has it."""
        curve = self._curve
        if curve:
            if fraction <= curve[-1].cached_fraction:
                return None
            for first, second in pairwise(reversed(curve)):  # from the largest on, the share grows
                if fraction <= second.cached_fraction:
                    part = (fraction - first.cached_fraction) / (second.cached_fraction - first.cached_fraction)
                    ends = math.log(first.working_set_bytes), math.log(second.working_set_bytes)
                    return math.exp(ends[0] + part * (ends[1] - ends[0]))
            return 0.0
        if fraction <= 0.0:
            return None
        if self._cache_bytes is None:
            return 0.0
        return self._cache_bytes * (STREAMING_ABOVE - fraction * (STREAMING_ABOVE - CACHED_BELOW))


def _position(size: float, first: CachePoint, second: CachePoint) -> float:
    return math.log(size / first.working_set_bytes) / math.log(second.working_set_bytes / first.working_set_bytes)


def _last_level_cache(device: DeviceProfile) -> int | None:
    """Bytes of the highest cache level, all its instances together; None when the system does not tell."""
    data = [cache for cache in device.cpu.caches if cache.kind != "instruction"]
    if not data:
        return None
    level = max(cache.level for cache in data)
    return sum(cache.size_bytes * (cache.instance_count or 1) for cache in data if cache.level == level)
