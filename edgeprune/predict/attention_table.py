"""Time of one attention node (GroupQueryAttention with rotary inside), from the points measured on the device.

Time is linear in past tokens between measured lengths, and proportional to heads * head_dim at equal lengths beyond
the measured configuration nearest to the asked one (scores and values are read and multiplied once a head).
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

from edgeprune.predict.interval import Interval, spread
from edgeprune.schema.device import AttentionTime

__all__ = ["AttentionTable"]

ATTENTION_SPREAD = 0.2

_Config = tuple[int, int, int]


class AttentionTable:
    """Measured attention times, ready to be asked for any length and head layout."""

    def __init__(self, times: Sequence[AttentionTime]) -> None:
        """Index the points by head layout and rows."""
        self._curves: dict[_Config, dict[int, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
        for point in times:
            config = (point.num_heads, point.num_kv_heads, point.head_dim)
            self._curves[config][point.rows].append((float(point.past_tokens), point.time_s))
        for by_rows in self._curves.values():
            for curve in by_rows.values():
                curve.sort()

    def time_s(
        self, *, rows: int, past_tokens: int, num_heads: int, num_kv_heads: int, head_dim: int
    ) -> Interval | None:
        """Seconds of one node; None when attention was never timed."""
        if not self._curves:
            return None
        width = num_heads * head_dim
        config = min(
            self._curves,
            key=lambda known: (
                abs(math.log(known[0] * known[2] / width))
                + 0.25 * abs(math.log(known[1] * num_heads / (known[0] * num_kv_heads))),
                known,
            ),
        )
        by_rows = self._curves[config]
        curve = [(float(known), _at(by_rows[known], float(past_tokens))) for known in sorted(by_rows)]
        value = _at(curve, float(rows)) * width / (config[0] * config[2])
        return spread(value, ATTENTION_SPREAD)


def _at(curve: list[tuple[float, float]], x: float) -> float:
    """Linear interpolation, extended along the last slope; never below the first value."""
    if len(curve) == 1 or x <= curve[0][0]:
        return curve[0][1]
    for (x0, y0), (x1, y1) in pairwise(curve):
        if x <= x1:
            return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    (x0, y0), (x1, y1) = curve[-2:]
    return y1 + max(0.0, (y1 - y0) / (x1 - x0)) * (x - x1)
