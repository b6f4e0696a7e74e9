"""Everything a token's time is predicted from: fixed costs, caches, attention and the kernel table.

What decodes one row under the kernels mostly chosen is measured in several passes, so that a slow moment of the machine
does not hit all repeats of one kernel; each figure is that of its fastest pass. Fixed costs come first: the others take
them off.
"""

from collections.abc import Callable
from dataclasses import dataclass

from edgeprune.profile.attention import AttentionShape, measure_attention
from edgeprune.profile.cache_curve import cache_curve, cached_bytes, measure_cache_curve
from edgeprune.profile.kernel_plan import QUICK_KERNELS, ChainGroup
from edgeprune.profile.kernels import KernelSettings, measure_kernels
from edgeprune.profile.overhead import Overhead, measure_overhead
from edgeprune.profile.passes import fastest
from edgeprune.schema.device import AttentionTime, CachePoint, KernelTime

__all__ = ["SpeedPlan", "Speeds", "measure_speeds"]


@dataclass(frozen=True, kw_only=True)
class SpeedPlan:
    """What is timed, how often, and what it may take."""

    thread_count: int
    round_count: int
    pass_count: int
    kernels: tuple[str, ...]
    groups: tuple[ChainGroup, ...]
    attention_shapes: tuple[AttentionShape, ...]
    attention_points: tuple[tuple[int, int], ...]
    cache_bytes: int | None
    most_bytes: int
    table_s: float
    """Seconds the kernel table may take in the first pass."""


@dataclass(frozen=True)
class Speeds:
    """What was timed."""

    overhead: Overhead
    cache_curve: tuple[CachePoint, ...]
    attention_times: tuple[AttentionTime, ...]
    kernel_times: tuple[KernelTime, ...]
    notes: tuple[str, ...]


def measure_speeds(plan: SpeedPlan, *, told: Callable[[float, str], None]) -> Speeds:
    """Time everything of the plan.

    `told` is called all along with the fraction that is done and what is at hand; it may raise to stop.
    """
    told(0.0, "fixed costs")
    overhead = measure_overhead(thread_count=plan.thread_count, round_count=4 * plan.round_count)
    curves: list[dict[int, float]] = []
    attention: list[AttentionTime] = []
    times: list[KernelTime] = []
    notes: tuple[str, ...] = ()
    for number in range(plan.pass_count):
        # The first pass has everything, the others one row, which takes a small part of the time.
        begin, end = (0.05, 0.6) if number == 0 else (0.6 + 0.4 * (number - 1) / (plan.pass_count - 1), 1.0)

        def stop(begin: float = begin) -> None:
            told(begin, "caches and attention")

        curves.append(
            measure_cache_curve(
                plan.cache_bytes,
                thread_count=plan.thread_count,
                round_count=2 * plan.round_count,
                most_bytes=plan.most_bytes,
                before=stop,
            )
        )
        attention += measure_attention(
            plan.attention_shapes,
            plan.attention_points if number == 0 else [point for point in plan.attention_points if point[0] == 1],
            thread_count=plan.thread_count,
            round_count=plan.round_count,
            run_s=overhead.bare_run_s,
            cache_bytes=plan.cache_bytes,
            before=stop,
        )
        settings = KernelSettings(
            thread_count=plan.thread_count,
            round_count=plan.round_count,
            budget_s=plan.table_s,
            cache_bytes=plan.cache_bytes,
            held_bytes=cached_bytes(cache_curve(curves)),
            most_bytes=plan.most_bytes,
            run_s=overhead.bare_run_s,
            node_s=overhead.record.node_s or 0.0,
        )
        measured, said = measure_kernels(
            plan.kernels if number == 0 else [kernel for kernel in plan.kernels if kernel in QUICK_KERNELS],
            plan.groups if number == 0 else [group for group in plan.groups if group.rows == 1],
            settings,
            before=lambda spent, begin=begin, end=end: told(begin + (end - begin) * spent, "kernels"),  # type: ignore[misc]
        )
        times += measured
        notes = notes or said
    return Speeds(overhead, cache_curve(curves), fastest(attention), fastest(times), notes)
