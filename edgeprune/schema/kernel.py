"""Kernels: how one weight matrix is stored and which onnxruntime operator multiplies by it.

A kernel's name is what recipes, device profiles and reports use:

    fp32                 float32 MatMul
    fp16                 stored in 16 bit, computed as the device computes it
    int4_b32_a4          MatMulNBits, 4 bit, blocks of 32 along the input, accuracy level 4 (int8 activations)
    int8_b32_a0          MatMulNBits, 8 bit, accuracy level 0 (float32 activations)
    dynamic_int8         DynamicQuantizeLinear + MatMulInteger, signed weights with one scale per output channel

Stored bytes follow the operator's layout (onnxruntime contrib operator MatMulNBits: `ceil(in / block)` blocks per
output row, one float32 scale a block, symmetric, so no zero points).
"""

import functools
import re
from typing import Literal

from edgeprune.errors import UsageError
from edgeprune.schema.base import Record

__all__ = ["FLOAT16", "FLOAT32", "Kernel", "KernelKind", "parse_kernel", "stored_bytes"]

KernelKind = Literal["float", "matmul_nbits", "dynamic_int8"]

FLOAT32 = "fp32"
FLOAT16 = "fp16"

_NBITS = re.compile(r"int(4|8)_b(16|32|64|128|256)_a([0-4])")


class Kernel(Record, frozen=True, kw_only=True):
    """One way to store and multiply a weight matrix."""

    kind: KernelKind
    bits: int
    """Bits per weight, scales not counted: 32, 16, 8 or 4."""
    block_size: int | None = None
    """Weights that share one scale along the input; None where the kernel has no blocks."""
    accuracy_level: int | None = None
    """MatMulNBits attribute: 0 lets the runtime choose float32 activations, 4 quantises activations to int8."""

    @property
    def name(self) -> str:
        """The canonical name; `parse_kernel` reads it back."""
        if self.kind == "float":
            return f"fp{self.bits}"
        if self.kind == "dynamic_int8":
            return "dynamic_int8"
        return f"int{self.bits}_b{self.block_size}_a{self.accuracy_level}"


@functools.cache
def parse_kernel(name: str) -> Kernel:
    """Read a kernel's name.

    Raises:
        UsageError: the name is of no known kernel.
    """
    if name in (FLOAT32, FLOAT16):
        return Kernel(kind="float", bits=int(name[2:]))
    if name == "dynamic_int8":
        return Kernel(kind="dynamic_int8", bits=8)
    match = _NBITS.fullmatch(name)
    if match is None:
        raise UsageError(f"Unknown kernel {name!r}; write fp32, fp16, dynamic_int8, or int4_b32_a4 and the like.")
    bits, block_size, accuracy_level = (int(group) for group in match.groups())
    return Kernel(kind="matmul_nbits", bits=bits, block_size=block_size, accuracy_level=accuracy_level)


def stored_bytes(kernel: str, *, in_features: int, out_features: int) -> int:
    """Bytes on disk of one [out, in] matrix under a kernel, scales included, bias not."""
    parsed = parse_kernel(kernel)
    if parsed.kind == "float":
        return in_features * out_features * parsed.bits // 8
    if parsed.kind == "dynamic_int8":
        return in_features * out_features + 4 * out_features
    assert parsed.block_size is not None
    blocks = -(-in_features // parsed.block_size)
    return out_features * blocks * (parsed.block_size * parsed.bits // 8 + 4)
