"""Byte layouts of the integer operators: rounded integers in, the tensors that onnxruntime reads out.

MatMulNBits (com.microsoft): for each output row, blocks of `block_size` weights along the input; a weight is stored
unsigned with half the range added (the operator's default zero point: 8 for 4 bits, 128 for 8); two 4-bit weights
share a byte, the earlier one in its low half. The last block is padded with the zero point, which stands for 0.

GatherBlockQuantized (com.microsoft) reads the same bytes with the same zero points, so one packed table serves an
embedding and a tied head.

MatMulInteger: [in, out] int8 with one scale per output column.
"""

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import ExportError
from edgeprune.rounding import RoundedWeight, stored_integers
from edgeprune.schema.kernel import parse_kernel

__all__ = ["block_count", "pack_blocks", "rounded_exactly"]


def block_count(in_features: int, block_size: int) -> int:
    """Blocks of one output row."""
    return -(-in_features // block_size)


def pack_blocks(values: NDArray[np.int8], *, bits: int, block_size: int) -> NDArray[np.uint8]:
    """Pack signed integers for MatMulNBits.

    Args:
        values: [out, in] int8, in [-2^(bits-1), 2^(bits-1) - 1].
        bits: 4 or 8.
        block_size: weights that share a scale.

    Returns:
        [out, blocks, block_size * bits / 8] uint8.
    """
    rows, columns = values.shape
    blocks = block_count(columns, block_size)
    zero_point = 1 << (bits - 1)
    padded: NDArray[np.uint8] = np.full((rows, blocks * block_size), zero_point, dtype=np.uint8)
    # int16 holds every sum: -128 + 128 .. 127 + 128.
    padded[:, :columns] = (values.astype(np.int16) + zero_point).astype(np.uint8)
    if bits == 4:
        padded = np.bitwise_or(padded[:, 0::2], padded[:, 1::2] << np.uint8(4), dtype=np.uint8)
    return padded.reshape(rows, blocks, block_size * bits // 8)


def rounded_exactly(weight: NDArray[np.float32], kernel: str, *, what: str) -> RoundedWeight:
    """Integers of a matrix that already holds only values the kernel can store.

    Args:
        weight: [out, in] float32, rounded to the kernel when the model was compressed.
        kernel: an integer kernel.
        what: the matrix, for the message.

    Raises:
        ExportError: the matrix was not rounded to this kernel, so the bundle would compute something else.
    """
    rounded = stored_integers(weight, kernel)
    largest = float(np.abs(weight).max(initial=0.0))
    error = float(np.abs(rounded.dequantized - weight).max(initial=0.0))
    # Reading what was rounded gives the same integers; 1e-5 leaves room for the last bit of a scale.
    if error > 1e-5 * largest or parse_kernel(kernel).kind == "float":
        raise ExportError(
            f"{what} is not rounded to {kernel}: rounding changes it by {error:.3g} of {largest:.3g}; "
            "compress the model with this recipe before exporting it."
        )
    return rounded
