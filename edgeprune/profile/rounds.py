"""Interleaved repeats: every graph is timed once a round, so that one slow moment cannot hit one graph only."""

import time
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from edgeprune.runtime.session import REST_S

__all__ = ["Timed", "quiet_times"]

_SAMPLE_S = 0.001
"""Shorter graphs are run several times a sample: reading the clock and waking threads must not show."""

_REWARM_S = 0.005
"""Shorter graphs run once untimed before each sample: the round before has displaced their weights and threads."""


class Timed(Protocol):
    """Something that can be run and timed, such as a `BoundGraph`."""

    def run(self) -> None:
        """Run once."""

    def time(self, run_count: int) -> float:
        """Mean seconds of `run_count` runs on end."""


def quiet_times(graphs: Sequence[Timed], *, round_count: int, rewarms: bool = True) -> list[float]:
    """Seconds of one run of each graph: lower quartile over the rounds, after untimed runs that tell its length.

    What disturbs a run only ever makes it longer; validation likewise takes the lowest of its processes' medians.
    """
    guesses = [_guess(graph) for graph in graphs]
    run_counts = [min(64, max(1, round(_SAMPLE_S / max(guess, 1e-7)))) for guess in guesses]
    samples = np.empty((round_count, len(graphs)))
    for i in range(round_count):
        for j, graph in enumerate(graphs):
            time.sleep(REST_S)  # the workers of the graph before
            if rewarms and guesses[j] < _REWARM_S:
                graph.run()
            samples[i, j] = graph.time(run_counts[j])
    return [float(value) for value in np.quantile(samples, 0.25, axis=0)] if graphs else []


def _guess(graph: Timed) -> float:
    first_s = graph.time(1)
    # The first run of a short graph is mostly allocation and waking; one of a long graph is costly to repeat.
    return first_s if first_s > _REWARM_S else min(first_s, graph.time(1))
