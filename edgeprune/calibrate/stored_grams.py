"""`StoredGrams`: second moments that lie in files and are made when they are asked for.

A Gram of 11,008 inputs takes 970 MB, and a model of 32 blocks has as many of them. Where it was measured on fewer
tokens than that, the inputs themselves are smaller and say the same: G = sum over batches of X^T X / tokens.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from edgeprune.intake.stored.store import WeightStore

__all__ = ["StoredGrams", "is_smaller_as_inputs"]


def is_smaller_as_inputs(token_count: int, width: int) -> bool:
    """Whether [tokens, width] float32 takes less than [width, width] float64."""
    return token_count < 2 * width


class StoredGrams(Mapping[str, Tensor]):
    """By input key: [in, in] float64, mean over tokens of x x^T; each is read or made anew, and nobody else's."""

    def __init__(self, store: WeightStore) -> None:
        """Start empty; a store keeps what is put in."""
        self._store = store
        self._grams: dict[str, Tensor] = {}
        self._inputs: dict[str, list[Tensor]] = {}

    def put_gram(self, key: str, gram: Tensor) -> None:
        """Keep a Gram as it is."""
        self._grams[key] = self._store.keep_exactly(gram)

    def put_inputs(self, key: str, batches: list[Tensor]) -> None:
        """Keep the inputs [rows, in] float32 of every batch in its place."""
        self._inputs[key] = [self._store.keep_exactly(batch) for batch in batches]

    def __getitem__(self, key: str) -> Tensor:
        """The Gram of one key."""
        if key in self._grams:
            return self._grams[key].clone()
        batches = self._inputs[key]
        width = batches[0].shape[1]
        gram = torch.zeros(width, width, dtype=torch.float64)
        for batch in batches:
            gram += batch.T @ batch
        return gram.div_(sum(map(len, batches)))

    def __iter__(self) -> Iterator[str]:
        """Keys of what was put in."""
        return iter([*self._grams, *self._inputs])

    def __len__(self) -> int:
        """How many there are."""
        return len(self._grams) + len(self._inputs)
