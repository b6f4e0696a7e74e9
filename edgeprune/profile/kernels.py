"""The kernel table: seconds of one site under each kernel, inside a chain of such sites in one session.

All kernels of a shape are timed in turns, so that a slow moment hits all alike; each time is the median of at least
five samples. The fixed cost of a run, and the trivial nodes that hold rectangular chains together, are taken off. The
table is boxed in time: groups come in order of worth, and one that would not end in time is left out.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from edgeprune.errors import ModelError
from edgeprune.profile.bound_graph import BoundGraph
from edgeprune.profile.kernel_plan import ChainGroup, cached_length, resident_estimate, streaming_length
from edgeprune.profile.rounds import quiet_times
from edgeprune.runtime.probe_graph_sites import site_chain
from edgeprune.schema.device import KernelTime

__all__ = ["KernelSettings", "measure_kernels"]

_FIRST_RATE = 2e10
"""Floating-point operations a second assumed before anything was timed: a slow board's."""
_OPEN_S = 0.01
"""Seconds assumed for opening a session before any was opened."""
_LONGEST_RUN_S = 0.02
"""A chain whose first run takes longer is cut: some kernels unpack their weights anew in every run."""
_INLINE_BYTES = 16 << 20
"""Longer chains have their weights in a file: copies made while building a message would double their memory."""


@dataclass(frozen=True)
class KernelSettings:
    """What the table may use, and what to take off."""

    thread_count: int
    round_count: int
    budget_s: float
    cache_bytes: int | None
    """The last-level cache as the system tells."""
    most_bytes: int
    """Memory that all open chains together may take."""
    run_s: float
    node_s: float
    held_bytes: int | None = None
    """What of the cache was seen to hold a working set; None where that was not measured."""


@dataclass
class _Chain:
    kernel: str
    site_count: int
    graph: BoundGraph


class _Clock:
    """What a group will cost, learnt from those before it."""

    def __init__(self, budget_s: float) -> None:
        self.end_s = time.monotonic() + budget_s
        self._rate = _FIRST_RATE
        self._open_s = _OPEN_S
        self._single_s = 2 * _OPEN_S

    def allows(self, rows: int, work: float, chain_count: int) -> bool:
        """Whether a group of chains would probably end in time."""
        cost_s = chain_count * self._single_s if rows == 1 else work / self._rate + chain_count * self._open_s
        return time.monotonic() + cost_s <= self.end_s

    def learn(self, rows: int, work: float, chain_count: int, *, open_s: float, run_s: float) -> None:
        """Take note of what opening and running a group of chains cost."""
        if chain_count == 0:
            return
        self._open_s = 0.5 * (self._open_s + open_s / chain_count)
        if rows == 1:
            self._single_s = 0.5 * (self._single_s + (open_s + run_s) / chain_count)
        elif run_s > 0.0:
            self._rate = work / run_s


def measure_kernels(
    kernels: Sequence[str],
    groups: Sequence[ChainGroup],
    settings: KernelSettings,
    *,
    before: Callable[[float], None] | None = None,
) -> tuple[tuple[KernelTime, ...], tuple[str, ...]]:
    """Times of all kernels over the groups that fit the budget, and notes on what was left out.

    `before` is called ahead of every group with the fraction of the budget spent.
    """
    clock = _Clock(settings.budget_s)
    start_s = time.monotonic()
    times: list[KernelTime] = []
    refused: set[str] = set()
    skipped: list[str] = []
    for group in groups:
        if before is not None:
            before(min(1.0, (time.monotonic() - start_s) / max(settings.budget_s, 1e-9)))
        lengths = _lengths(kernels, group, settings)
        work = sum(_work(group, count, settings.round_count) for count in lengths.values())
        if not group.is_essential and not clock.allows(group.rows, work, len(lengths)):
            skipped.append(f"{group.shape[0]}x{group.shape[1]} at {group.rows} rows")
            continue
        for batch in _batches(lengths, group, settings.most_bytes):
            times += _measure_batch(batch, group, settings, clock, refused)
    notes = [f"This onnxruntime does not run the kernel {kernel}." for kernel in sorted(refused)]
    if skipped:
        notes.append(f"The kernel table's time was spent before {', '.join(dict.fromkeys(skipped))}.")
    return tuple(times), tuple(notes)


def _lengths(kernels: Sequence[str], group: ChainGroup, settings: KernelSettings) -> dict[str, int]:
    lengths = {}
    for kernel in kernels:
        if kernel not in group.kernels:
            continue
        if group.is_cached:
            count = cached_length(kernel, group, settings.cache_bytes, held_bytes=settings.held_bytes)
        else:
            count = streaming_length(kernel, group, settings.cache_bytes, settings.most_bytes)
        if count is not None and count * resident_estimate(kernel, group.shape, group.rank) <= settings.most_bytes:
            lengths[kernel] = count
    return lengths


def _work(group: ChainGroup, site_count: int, round_count: int) -> float:
    weights = group.shape[0] * group.shape[1] if group.rank is None else group.rank * sum(group.shape)
    return 2.0 * group.rows * weights * site_count * (round_count + 3)


def _batches(lengths: dict[str, int], group: ChainGroup, most_bytes: int) -> Iterator[dict[str, int]]:
    """Split kernels so that the chains open at one time fit the memory; the order is kept."""
    batch: dict[str, int] = {}
    used = 0
    for kernel, count in lengths.items():
        size = count * resident_estimate(kernel, group.shape, group.rank)
        if batch and used + size > most_bytes:
            yield batch
            batch, used = {}, 0
        batch[kernel] = count
        used += size
    if batch:
        yield batch


def _measure_batch(
    lengths: dict[str, int],
    group: ChainGroup,
    settings: KernelSettings,
    clock: _Clock,
    refused: set[str],
) -> Iterator[KernelTime]:
    start_s = time.monotonic()
    with ExitStack() as stack:
        chains = []
        for kernel, site_count in lengths.items():
            if kernel in refused:
                continue
            try:
                chains.append(_open(kernel, site_count, group, settings, stack))
            except ModelError:  # an operator or a width this release of onnxruntime lacks
                refused.add(kernel)
        opened_s = time.monotonic()
        # A token's weights stream after those of the token before, with the workers awake and some still in cache.
        medians = quiet_times([chain.graph for chain in chains], round_count=settings.round_count)
        ended_s = time.monotonic()
    work = sum(_work(group, chain.site_count, settings.round_count) for chain in chains)
    clock.learn(group.rows, work, len(chains), open_s=opened_s - start_s, run_s=ended_s - opened_s)
    for chain, median_s in zip(chains, medians, strict=True):
        shape_s = (chain.site_count - 1) * settings.node_s if group.shape[0] != group.shape[1] else 0.0
        yield KernelTime(
            kernel=chain.kernel,
            rows=group.rows,
            in_features=group.shape[0],
            out_features=group.shape[1],
            rank=group.rank,
            is_cached=group.is_cached,
            time_s=max(median_s - settings.run_s - shape_s, 0.05 * median_s) / chain.site_count,
        )


def _open(kernel: str, site_count: int, group: ChainGroup, settings: KernelSettings, stack: ExitStack) -> _Chain:
    """A chain ready to be timed, cut where its first run shows it to be too slow."""
    bound = _bind(kernel, site_count, group, settings, stack)
    first_s = bound.time(1)
    fitting = max(1, int(site_count * _LONGEST_RUN_S / first_s)) if group.is_cached else site_count
    if fitting < site_count:
        site_count = fitting
        bound = _bind(kernel, site_count, group, settings, stack)
    return _Chain(kernel, site_count, bound)


def _bind(kernel: str, site_count: int, group: ChainGroup, settings: KernelSettings, stack: ExitStack) -> BoundGraph:
    graph = site_chain(
        kernel, in_features=group.shape[0], out_features=group.shape[1], site_count=site_count, rank=group.rank
    )
    if graph.array_bytes > _INLINE_BYTES:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgeprune-probe-")))
        bound = BoundGraph(graph.write(folder), thread_count=settings.thread_count)
    else:
        bound = BoundGraph(graph, thread_count=settings.thread_count)
    bound.bind_rows(group.rows)
    return bound
