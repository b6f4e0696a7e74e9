"""Running sums over token batches: second moments, means, sizes, int8 activation error and stability of one input key.

Products are float32 within a batch and added up in float64. Stability needs the Grams of two halves of the data; they
are compared through a fixed random sketch G Omega with 16 columns, whose Frobenius norm estimates that of G (its
square has the same expectation), instead of holding a second Gram.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["ACTIVATION_BLOCK", "PARTS", "InputMoments"]

ACTIVATION_BLOCK = 32
"""Features that share one activation scale under MatMulNBits accuracy level 4 with blocks of 32."""
_CHUNK_ROWS = 128
"""Rows multiplied at once in prefill, over which dynamic int8 takes one scale."""
_SKETCH_COLUMNS = 16
PARTS = ("gram", "sum", "absolute", "sketches", "noise", "counts")
"""Names of the sums of one input key."""


class InputMoments:
    """Sums over the tokens that reach one input key."""

    def __init__(self, width: int, *, seed: int, with_gram: bool = True) -> None:
        """Start at zero for inputs of `width` features; without a Gram where the inputs themselves are kept."""
        generator = torch.Generator().manual_seed(seed)
        self._omega = torch.randn(width, _SKETCH_COLUMNS, generator=generator)
        self._sketches = torch.zeros(2, width, _SKETCH_COLUMNS, dtype=torch.float64)
        self._half_tokens = [0, 0]
        self._gram = torch.zeros(width, width, dtype=torch.float64) if with_gram else None
        self._sum = torch.zeros(width, dtype=torch.float64)
        self._absolute = torch.zeros(width, dtype=torch.float64)
        self._noise = torch.zeros(2, -(-width // ACTIVATION_BLOCK), dtype=torch.float64)
        self._noise_tokens = 0

    def add(self, inputs: Tensor, *, half: int, with_noise: bool) -> None:
        """Add a batch [rows, width] float32 that belongs to half 0 or 1 of the data."""
        if self._gram is not None:
            self._gram += inputs.T @ inputs
        self._sum += inputs.sum(dim=0)
        self._absolute += inputs.abs().sum(dim=0)
        self._sketches[half] += inputs.T @ (inputs @ self._omega)
        self._half_tokens[half] += len(inputs)
        if with_noise:
            self._add_noise(inputs)
            self._noise_tokens += len(inputs)

    def parts(self) -> dict[str, Tensor]:
        """The sums by name, as `PARTS` lists them; `counts` [3] int64 are the tokens of the halves and of the noise."""
        assert self._gram is not None
        return {
            "gram": self._gram,
            "sum": self._sum,
            "absolute": self._absolute,
            "sketches": self._sketches,
            "noise": self._noise,
            "counts": torch.tensor([*self._half_tokens, self._noise_tokens], dtype=torch.int64),
        }

    def add_parts(self, parts: Mapping[str, Tensor]) -> None:
        """Add sums over other tokens, which must have been sketched with the same seed."""
        assert self._gram is not None
        self._gram += parts["gram"]
        self._sum += parts["sum"]
        self._absolute += parts["absolute"]
        self._sketches += parts["sketches"]
        self._noise += parts["noise"]
        first, second, noise = parts["counts"].tolist()
        self._half_tokens = [self._half_tokens[0] + first, self._half_tokens[1] + second]
        self._noise_tokens += noise

    def take_gram(self) -> Tensor:
        """[width, width] float64, mean over tokens of x x^T; in place, since Grams are the largest thing held."""
        assert self._gram is not None
        return self._gram.div_(self.token_count)

    def release_gram(self) -> Tensor:
        """The same, and it is no longer held here."""
        gram, self._gram = self.take_gram(), None
        return gram

    @property
    def mean(self) -> Tensor:
        """[width] float64."""
        return self._sum / self.token_count

    @property
    def mean_absolute(self) -> Tensor:
        """[width] float64."""
        return self._absolute / self.token_count

    @property
    def noise(self) -> Tensor:
        """[2, blocks] float64, see `CalibrationStats.activation_noise`."""
        return self._noise / max(1, self._noise_tokens)

    @property
    def token_count(self) -> int:
        """Tokens added."""
        return sum(self._half_tokens)

    @property
    def half_difference(self) -> float | None:
        """Relative Frobenius difference of the halves' Grams; None while a half is empty or the Gram is zero."""
        if 0 in self._half_tokens:
            return None
        first, second = (sketch / count for sketch, count in zip(self._sketches, self._half_tokens, strict=True))
        scale = (first + second).norm() / 2
        return float((first - second).norm() / scale) if scale > 0 else None

    def _add_noise(self, inputs: Tensor) -> None:
        rows, width = inputs.shape
        padding = self._noise.shape[1] * ACTIVATION_BLOCK - width
        grouped = torch.nn.functional.pad(inputs, (0, padding)).view(rows, -1, ACTIVATION_BLOCK)
        scale = grouped.abs().amax(dim=2, keepdim=True) / 127
        self._noise[0] += _rounding_error(grouped, scale)
        for chunk in grouped.split(_CHUNK_ROWS):
            # DynamicQuantizeLinear: one scale over the range of all rows, zero included, on 255 steps.
            spread = chunk.amax().clamp(min=0) - chunk.amin().clamp(max=0)
            self._noise[1] += _rounding_error(chunk, spread / 255)


def _rounding_error(grouped: Tensor, scale: Tensor) -> Tensor:
    """Mean squared rounding error of an element, [rows, blocks, 32] -> sum over rows [blocks]."""
    safe = torch.where(scale > 0, scale, torch.ones_like(scale))
    steps = grouped / safe
    error = (steps - steps.round()) * safe
    return error.square().mean(dim=2).sum(dim=0, dtype=torch.float64)
