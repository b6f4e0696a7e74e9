"""Time of one attention node (GroupQueryAttention with rotary inside), from the points measured on the device.

Time is linear in past tokens between measured lengths, and proportional to heads * head_dim at equal lengths beyond
the measured configuration nearest to the asked one (scores and values are read and multiplied once a head). With an
8-bit cache a configuration that was timed with both is slower or faster by a factor of its own, which others take over;
where no 8-bit cache was timed, the time is that of the float cache in a wider range. Keys and values that come from
memory add the seconds a byte that a configuration timed both ways shows.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from edgeprune.predict.interval import Interval, add, spread
from edgeprune.schema.device import AttentionTime

__all__ = ["AttentionTable"]

ATTENTION_SPREAD = 0.2
UNTIMED_CACHE_SPREAD = 0.5
"""Of an 8-bit cache on a device that timed none: the lab's bundle took 1.13 times as long a token (bench/kv.py)."""

_Config = tuple[int, int, int]
_Curves = dict[_Config, dict[int, list[tuple[float, float]]]]


class AttentionTable:
    """Measured attention times, ready to be asked for any length and head layout."""

    def __init__(self, times: Sequence[AttentionTime]) -> None:
        """Index the points by head layout and rows."""
        self._curves = _curves(point for point in times if point.kv_bits != 8 and point.is_cached)
        self._int8_curves = _curves(point for point in times if point.kv_bits == 8 and point.is_cached)
        streaming = [point for point in times if not point.is_cached and point.past_tokens > 0] if self._curves else []
        self._streaming_s = max(map(self._per_byte, streaming), default=0.0)

    @property
    def has_int8_cache(self) -> bool:
        """Whether an 8-bit cache was timed, so that its times rest on measurements."""
        return bool(self._int8_curves)

    def time_s(
        self,
        *,
        rows: int,
        past_tokens: int,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
        kv_bits: int = 32,
        is_cached: bool = True,
    ) -> Interval | None:
        """Seconds of one node; None when attention was never timed."""
        if not self._curves:
            return None
        time = self._cached_s(rows, past_tokens, num_heads, num_kv_heads, head_dim, kv_bits)
        if is_cached:
            return time
        read_bytes = _read_bytes(num_kv_heads, head_dim, past_tokens, kv_bits)
        return add(time, spread(self._streaming_s * read_bytes, ATTENTION_SPREAD))

    def _per_byte(self, point: AttentionTime) -> float:
        """Seconds a byte that keys and values from memory took longer."""
        cached = self._cached_s(
            point.rows, point.past_tokens, point.num_heads, point.num_kv_heads, point.head_dim, point.kv_bits
        )
        read_bytes = _read_bytes(point.num_kv_heads, point.head_dim, point.past_tokens, point.kv_bits)
        return max(0.0, point.time_s - cached.value) / read_bytes

    def _cached_s(
        self, rows: int, past_tokens: int, num_heads: int, num_kv_heads: int, head_dim: int, kv_bits: int
    ) -> Interval:
        width = num_heads * head_dim
        config = _nearest(self._curves, width, num_heads, num_kv_heads)
        value = _read(self._curves[config], rows, past_tokens) * width / (config[0] * config[2])
        if kv_bits != 8:
            return spread(value, ATTENTION_SPREAD)
        both = {known: curve for known, curve in self._int8_curves.items() if known in self._curves}
        if not both:
            return spread(value, UNTIMED_CACHE_SPREAD)
        timed = _nearest(both, width, num_heads, num_kv_heads)
        factor = _read(both[timed], rows, past_tokens) / _read(self._curves[timed], rows, past_tokens)
        return spread(value * factor, ATTENTION_SPREAD)


def _read_bytes(num_kv_heads: int, head_dim: int, past_tokens: int, kv_bits: int) -> int:
    """Of the keys and values that one new row attends to."""
    return 2 * num_kv_heads * head_dim * past_tokens * kv_bits // 8


def _curves(times: Iterable[AttentionTime]) -> _Curves:
    curves: _Curves = defaultdict(lambda: defaultdict(list))
    for point in times:
        config = (point.num_heads, point.num_kv_heads, point.head_dim)
        curves[config][point.rows].append((float(point.past_tokens), point.time_s))
    for by_rows in curves.values():
        for curve in by_rows.values():
            curve.sort()
    return curves


def _nearest(curves: _Curves, width: int, num_heads: int, num_kv_heads: int) -> _Config:
    return min(
        curves,
        key=lambda known: (
            abs(math.log(known[0] * known[2] / width))
            + 0.25 * abs(math.log(known[1] * num_heads / (known[0] * num_kv_heads))),
            known,
        ),
    )


def _read(by_rows: Mapping[int, list[tuple[float, float]]], rows: int, past_tokens: int) -> float:
    """Seconds of the configuration itself at these lengths."""
    curve = [(float(known), _at(by_rows[known], float(past_tokens))) for known in sorted(by_rows)]
    return _at(curve, float(rows))


def _at(curve: list[tuple[float, float]], x: float) -> float:
    """Linear interpolation, extended along the last slope; never below the first value."""
    if len(curve) == 1 or x <= curve[0][0]:
        return curve[0][1]
    for (x0, y0), (x1, y1) in pairwise(curve):
        if x <= x1:
            return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    (x0, y0), (x1, y1) = curve[-2:]
    return y1 + max(0.0, (y1 - y0) / (x1 - x0)) * (x - x1)
