"""The faster of several measurements of the same thing, taken apart from each other.

Repeats within a few milliseconds all fall into the same slow moment of a shared machine. Disturbance only ever adds
time; validation likewise takes the lowest of the medians of processes that ran one after the other.
"""

from collections.abc import Iterable
from typing import TypeVar

from msgspec.structs import replace

from edgeprune.schema.device import AttentionTime, KernelTime

__all__ = ["fastest"]

_Time = TypeVar("_Time", KernelTime, AttentionTime)


def fastest(times: Iterable[_Time]) -> tuple[_Time, ...]:
    """Each point once, with the least of its times, in the order in which points first came."""
    found: dict[_Time, float] = {}
    for time in times:
        point = replace(time, time_s=0.0)
        found[point] = min(time.time_s, found.get(point, time.time_s))
    return tuple(replace(point, time_s=time_s) for point, time_s in found.items())
