"""The next token: the most likely one, or one drawn from the nucleus.

    p = softmax(logits / temperature)                                                                     (1)
    nucleus = the fewest most likely tokens whose p add up to at least top_p                              (2)

(2) is top-p sampling (Holtzman et al., arXiv 1904.09751, section 3.1).
"""

import numpy as np
from numpy.typing import NDArray

from edgeprune.schema.generation import Sampling

__all__ = ["Sampler"]


class Sampler:
    """Chooses tokens as one request asks; draws are repeatable with a seed."""

    def __init__(self, sampling: Sampling) -> None:
        """Start the random numbers."""
        self._sampling = sampling
        self._rng = np.random.default_rng(sampling.seed)

    def choose(self, logits: NDArray[np.float32]) -> int:
        """A token id from logits [vocab]; ties of the greedy choice go to the lowest id."""
        if self._sampling.temperature == 0.0:
            return int(logits.argmax())
        scaled = logits.astype(np.float64) / self._sampling.temperature
        chances = np.exp(scaled - scaled.max())
        chances /= chances.sum()  # eq. (1)
        if self._sampling.top_p < 1.0:
            order = np.argsort(-chances, kind="stable")
            count = int(np.searchsorted(np.cumsum(chances[order]), self._sampling.top_p)) + 1  # eq. (2)
            order = order[:count]
            kept = chances[order] / chances[order].sum()
            return int(order[self._rng.choice(len(order), p=kept)])
        return int(self._rng.choice(len(chances), p=chances))
