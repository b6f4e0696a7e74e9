"""`PackedSource`: a matrix rounded to an integer kernel, kept as its integers and scales and widened when it is read.

4-bit integers stand two to a byte, the earlier one in the low half. Reading gives integer * scale in float32, the very
values the kernel computes with.
"""

import torch
from torch import Tensor

__all__ = ["PackedSource", "pack_integers"]

_ROWS_AT_ONCE = 512
"""Bounds what is held besides the result."""


def pack_integers(values: Tensor, bits: int) -> Tensor:
    """[rows, columns] int8 as stored: uint8 [rows, ceil(columns / 2)] for 4 bits, the same tensor for 8."""
    if bits == 8:
        return values
    padded = torch.nn.functional.pad(values, (0, values.shape[1] % 2)).view(torch.uint8)
    return (padded[:, 0::2] & 15) | (padded[:, 1::2] << 4)


class PackedSource:
    """Integers of 4 or 8 bits and float32 scales."""

    def __init__(self, codes: Tensor, scales: Tensor, *, bits: int, columns: int, width: int) -> None:
        """Take them; they are not copied.

        Args:
            codes: as `pack_integers` gives them.
            scales: [rows, ceil(columns / width)] float32.
            bits: 4 or 8.
            columns: of the matrix.
            width: values that share a scale.
        """
        self.codes, self.scales = codes, scales
        self.bits, self.width = bits, width
        self.shape = (codes.shape[0], columns)

    def read(self, rows: slice | Tensor | None = None) -> Tensor:
        """As `Source.read`."""
        codes, scales = (self.codes, self.scales) if rows is None else (self.codes[rows], self.scales[rows])
        found = torch.empty(len(codes), self.shape[1])
        for start in range(0, len(codes), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            self._widen(codes[part], scales[part], found[part])
        return found

    def integers(self) -> Tensor:
        """[rows, columns] int8: what the scales multiply."""
        return self._signed(self.codes)

    def _widen(self, codes: Tensor, scales: Tensor, found: Tensor) -> None:
        values = self._signed(codes)
        count, rest = divmod(self.shape[1], self.width)
        whole = count * self.width
        grouped = values[:, :whole].reshape(len(codes), count, self.width)
        found[:, :whole] = (grouped * scales[:, :count, None]).flatten(1)
        if rest:
            found[:, whole:] = values[:, whole:] * scales[:, count:]

    def _signed(self, codes: Tensor) -> Tensor:
        if self.bits == 8:
            return codes
        # Shifted left and back as signed bytes, a half-byte gets its sign.
        signed = codes.view(torch.int8)
        return torch.stack([(signed << 4) >> 4, signed >> 4], dim=2).flatten(1)[:, : self.shape[1]]
