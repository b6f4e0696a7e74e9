"""Rounding of a weight matrix to a kernel's integers, in numpy, as onnxruntime computes with them.

`round_weight` takes W [out, in] float32 and a kernel's name and gives integers, scales and the float32 matrix they
stand for. Calibration prices the rounding error with it, compression puts the dequantised matrix into the torch model,
and export packs the same integers, so the three never disagree.

MatMulNBits, symmetric: for each block along the input, scale = (the value of largest magnitude) / -2^(bits-1), so that
this value becomes exactly the lowest integer; the others are rounded to the nearest integer, ties upwards, and limited
to [-2^(bits-1), 2^(bits-1) - 1] (`BlockwiseQuantizer` in onnxruntime's `core/mlas/lib/q4_dq.cpp`). Rounding the
dequantised matrix again gives the same integers.

Dynamic int8: one scale per output row, largest magnitude / 127, integers in [-127, 127].

Other methods keep these layouts and choose the integers, and where the scales come from, themselves. Their matrices are
float32 values on the same kind of grid, from which `stored_integers` reads integers and scales back, so that a model
needs to carry nothing beside its weights.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import UsageError
from edgeprune.schema.kernel import Kernel, parse_kernel

__all__ = ["RoundedWeight", "dequantized", "round_weight", "rounding_key", "stored_integers"]

_ROWS_AT_ONCE = 1024
"""Rows rounded together: bounds the temporaries of a vocabulary table to a few of these rows."""

_ON_GRID = 1e-3
"""Of a step. Quotients of values on a grid of 2^8 steps are at least 1 / 128 from an integer, or equal to one."""
_EQUAL = 1e-6
"""Share of the largest value by which a matrix may differ from its integers times their scales: float32's last bits."""


@dataclass(frozen=True, kw_only=True)
class RoundedWeight:
    """A weight matrix as integers and scales."""

    values: NDArray[np.int8]
    """[out, in], signed, padding of the last block left out."""
    scales: NDArray[np.float32]
    """[out, blocks]: weight = value * scale; [out, 1] for dynamic int8. MatMulNBits scales may be negative."""
    dequantized: NDArray[np.float32]
    """[out, in]: values * scales, what the runtime multiplies by."""


def round_weight(weight: NDArray[np.float32], kernel: str) -> RoundedWeight:
    """Round W [out, in] float32 to the integers of an integer kernel.

    Raises:
        UsageError: the kernel is unknown or stores floats.
    """
    parsed = parse_kernel(kernel)
    if parsed.kind == "float":
        raise UsageError(f"Kernel {kernel} stores floats, which have no integers; use an int4, int8 or dynamic kernel.")
    weight = np.asarray(weight, dtype=np.float32)
    pieces = [_round_rows(weight[at : at + _ROWS_AT_ONCE], parsed) for at in range(0, len(weight), _ROWS_AT_ONCE)]
    return _joined(pieces)


def stored_integers(weight: NDArray[np.float32], kernel: str) -> RoundedWeight:
    """The integers and scales that W [out, in] float32, rounded to an integer kernel by any method, stands for.

    Where rounding to nearest leaves a block as it is, its integers and scale are taken. Elsewhere the block's smallest
    value is tried as 1, 2, 3, ... steps of its grid. A block that lies on no grid is rounded to nearest, which shows in
    `dequantized`.

    Raises:
        UsageError: the kernel is unknown or stores floats.
    """
    weight = np.asarray(weight, dtype=np.float32)
    pieces = [_stored_rows(weight[at : at + _ROWS_AT_ONCE], kernel) for at in range(0, len(weight), _ROWS_AT_ONCE)]
    return _joined(pieces)


def dequantized(weight: NDArray[np.float32], kernel: str) -> NDArray[np.float32]:
    """W [out, in] float32 as the kernel computes with it, for float kernels too."""
    parsed = parse_kernel(kernel)
    if parsed.kind != "float":
        return round_weight(weight, kernel).dequantized
    weight = np.asarray(weight, dtype=np.float32)
    if parsed.bits == 32:
        return weight
    # Values beyond the largest float16 stay finite: an infinite weight would be worse than a clipped one.
    limit = float(np.finfo(np.float16).max)
    half: NDArray[np.float32] = np.clip(weight, -limit, limit).astype(np.float16).astype(np.float32)
    return half


def rounding_key(kernel: str) -> str:
    """Names kernels that round weights alike: accuracy levels change the activations only."""
    parsed = parse_kernel(kernel)
    return kernel if parsed.kind != "matmul_nbits" else f"int{parsed.bits}_b{parsed.block_size}"


def _joined(pieces: list[RoundedWeight]) -> RoundedWeight:
    return RoundedWeight(
        values=np.concatenate([piece.values for piece in pieces]),
        scales=np.concatenate([piece.scales for piece in pieces]),
        dequantized=np.concatenate([piece.dequantized for piece in pieces]),
    )


def _stored_rows(weight: NDArray[np.float32], kernel: str) -> RoundedWeight:
    parsed = parse_kernel(kernel)
    rounded = round_weight(weight, kernel)
    rows, columns = weight.shape
    width = columns if parsed.block_size is None else parsed.block_size
    blocks = rounded.scales.shape[1]
    padding = ((0, 0), (0, blocks * width - columns))
    grouped, product, values = (
        np.pad(array, padding).reshape(rows * blocks, width)
        for array in (weight, rounded.dequantized, rounded.values.astype(np.float32))
    )
    largest = np.abs(grouped).max(axis=1)
    changed = np.flatnonzero(np.abs(product - grouped).max(axis=1) > _EQUAL * largest)
    if not len(changed):
        return rounded
    low = -127 if parsed.kind == "dynamic_int8" else -(2 ** (parsed.bits - 1))
    found, on_grid = _on_grid(grouped[changed], low=low, high=2 ** (parsed.bits - 1) - 1)
    changed = changed[~np.isnan(found)]
    scales = rounded.scales.reshape(-1).copy()
    scales[changed], values[changed] = found[~np.isnan(found)], on_grid[~np.isnan(found)]
    product[changed] = values[changed] * scales[changed, None]

    def flat(array: NDArray[np.float32]) -> NDArray[np.float32]:
        return array.reshape(rows, blocks * width)[:, :columns]

    return _rounded(flat(values), scales.reshape(rows, blocks), flat(product))


def _round_rows(weight: NDArray[np.float32], kernel: Kernel) -> RoundedWeight:
    rows, columns = weight.shape
    if kernel.kind == "dynamic_int8":
        scales = np.abs(weight).max(axis=1, keepdims=True) / np.float32(127)
        values = np.clip(_half_away(weight * _reciprocal(scales)), -127, 127)
        return _rounded(values, scales, values * scales)
    assert kernel.block_size is not None
    blocks = -(-columns // kernel.block_size)
    padded = np.zeros((rows, blocks * kernel.block_size), dtype=np.float32)
    padded[:, :columns] = weight
    grouped = padded.reshape(rows, blocks, kernel.block_size)
    low = grouped.min(axis=2, keepdims=True)
    high = grouped.max(axis=2, keepdims=True)
    half_range = 2 ** (kernel.bits - 1)
    scales = np.where(np.abs(high) > np.abs(low), high, low) / np.float32(-half_range)
    # The offset is added before rounding, as the operator's stored (unsigned) integers are: ties go up, not outwards.
    offset = np.float32(half_range)
    values = np.clip(_half_away(grouped * _reciprocal(scales) + offset), 0, 2 * half_range - 1) - offset
    flat = (values * scales).reshape(rows, -1)[:, :columns]
    return _rounded(values.reshape(rows, -1)[:, :columns], scales[:, :, 0], flat)


def _on_grid(blocks: NDArray[np.float32], *, low: int, high: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scale [n] and integers [n, width] of blocks whose values are integers times a scale; NaN where they are not."""
    scales = np.full(len(blocks), np.nan, dtype=np.float32)
    values = np.zeros_like(blocks)
    magnitude = np.abs(blocks)
    smallest = np.where(magnitude > 0.0, magnitude, np.inf).min(axis=1)
    left = np.arange(len(blocks))
    for steps in range(1, -low + 1):
        quotients = blocks[left].astype(np.float64) * (steps / smallest[left, None].astype(np.float64))
        integers = np.rint(quotients)
        is_grid = np.abs(quotients - integers).max(axis=1) < _ON_GRID
        for sign in (1, -1):
            inside = (sign * integers >= low).all(axis=1) & (sign * integers <= high).all(axis=1)
            fits = np.flatnonzero(is_grid & inside & np.isnan(scales[left]))
            places, whole = left[fits], sign * integers[fits]
            # By the largest value, whose relative error is least.
            at = np.abs(whole).argmax(axis=1)
            scales[places] = blocks[places, at] / whole[np.arange(len(at)), at]
            values[places] = whole
        left = left[np.isnan(scales[left])]
        if not len(left):
            break
    return scales, values


def _rounded(values: NDArray[np.float32], scales: NDArray[np.float32], product: NDArray[np.float32]) -> RoundedWeight:
    return RoundedWeight(
        values=values.astype(np.int8),
        scales=np.ascontiguousarray(scales, dtype=np.float32),
        dequantized=np.ascontiguousarray(product, dtype=np.float32),
    )


def _reciprocal(scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 / scale, and 0 where the scale is 0 (an all-zero block)."""
    reciprocal: NDArray[np.float32] = np.divide(np.float32(1), scales, out=np.zeros_like(scales), where=scales != 0)
    return reciprocal


def _half_away(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round half away from zero, as C's roundf; `np.rint` rounds half to even.

    The fraction is compared instead of adding 0.5, which float32 would itself round up near 64.5.
    """
    whole = np.trunc(values)
    away = np.copysign(np.float32(1), values) * (np.abs(values - whole) >= np.float32(0.5))
    rounded: NDArray[np.float32] = np.add(whole, away, dtype=np.float32)
    return rounded
