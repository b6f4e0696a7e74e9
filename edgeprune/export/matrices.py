"""Graph modules of a weight matrix under each kernel, and of a site made of one or two such matrices.

A site in the pivot form is MatMul, MatMul and Concat, and where its rows have another order a Gather between two
Transposes: the pivot rows' outputs, the others made from them, both joined and put in order. v with few values a head
is one product with zeros put behind them, o one that reads the first numbers of each.

Takes W [out, in] float32 from torch; emits the operators that multiply by it and hands over the arrays to store. The
kernel is chosen when the graph is built, so no pass has to find and replace a MatMul afterwards. Matrices of one kernel
that read the same input may stand in one product, one below the other (`edgeprune.export.packed`), and a site then
holds its part of that product in the place of its right factor.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from onnxscript import nn

from edgeprune.compress.factored import FactoredLinear
from edgeprune.compress.head_linear import HeadColumns, HeadRows
from edgeprune.compress.pivoted import PivotedLinear
from edgeprune.errors import ExportError
from edgeprune.export.packing import block_count, pack_blocks, rounded_exactly
from edgeprune.intake.stored.store import kept_integers
from edgeprune.schema.kernel import Kernel, parse_kernel

__all__ = ["Matrix", "Site", "StoredArray", "to_array", "to_half"]

StoredArray = tuple[NDArray[Any], tuple[ir.Value, ...]]
"""Bytes and the initializers that read them: more than one for a tied table."""


def to_array(tensor: torch.Tensor) -> NDArray[np.float32]:
    """A float32 array that shares the tensor's memory where it can."""
    return tensor.detach().to(torch.float32).cpu().numpy()


def to_half(array: NDArray[np.float32], what: str) -> NDArray[np.float16]:
    """The same in float16.

    Raises:
        ExportError: a value beyond it; `what` says of which.
    """
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    if not np.isfinite(half).all():
        raise ExportError(
            f"{what} holds a value of {float(np.abs(array).max()):.3g}, more than float16 can; keep it in float32."
        )
    return half


class Matrix(nn.Module):
    """y = W x for one matrix under one kernel, or for several of one width, one below the other."""

    def __init__(self, weights: torch.Tensor | Sequence[torch.Tensor], kernel: str, *, what: str) -> None:
        """Take W [out, in], or its parts, and the kernel that stores it; `what` names the matrix in messages."""
        super().__init__()
        self.sources = (weights,) if isinstance(weights, torch.Tensor) else tuple(weights)
        self.what = what
        self.kernel: Kernel = parse_kernel(kernel)
        self.in_features = self.sources[0].shape[1]
        self.out_features = sum(len(weight) for weight in self.sources)
        if self.kernel.kind == "float":
            dtype = ir.DataType.FLOAT if self.kernel.bits == 32 else ir.DataType.FLOAT16
            self.weight = nn.Parameter([self.in_features, self.out_features], dtype)
        elif self.kernel.kind == "dynamic_int8":
            self.values = nn.Parameter([self.in_features, self.out_features], ir.DataType.INT8)
            self.scales = nn.Parameter([self.out_features])
        else:
            assert self.kernel.block_size is not None
            blocks = block_count(self.in_features, self.kernel.block_size)
            bytes_per_block = self.kernel.block_size * self.kernel.bits // 8
            self.values = nn.Parameter([self.out_features, blocks, bytes_per_block], ir.DataType.UINT8)
            self.scales = nn.Parameter([self.out_features * blocks])

    def forward(self, op: Any, x: ir.Value) -> ir.Value:
        """Emit the product, [..., in] -> [..., out] float32."""
        if self.kernel.kind == "float":
            # A float16 matrix is widened by the runtime, once, while it loads: the CPU has no 16-bit MatMul.
            weight = self.weight if self.kernel.bits == 32 else op.Cast(self.weight, to=ir.DataType.FLOAT)
            return op.MatMul(x, weight)
        if self.kernel.kind == "dynamic_int8":
            return dynamic_int8_product(op, x, self.values, self.scales)
        return op.MatMulNBits(
            x,
            self.values,
            self.scales,
            K=self.in_features,
            N=self.out_features,
            bits=self.kernel.bits,
            block_size=self.kernel.block_size,
            accuracy_level=self.kernel.accuracy_level,
            _domain="com.microsoft",
        )

    def arrays(self) -> Iterator[StoredArray]:
        """The bytes of this matrix, made when they are asked for."""
        if self.kernel.kind == "float":
            is_half = self.kernel.bits == 16
            columns = np.empty((self.in_features, self.out_features), np.float16 if is_half else np.float32)
            at = 0
            for part in self.sources:
                array = to_array(part).T
                columns[:, at : at + len(part)] = to_half(array, self.what) if is_half else array
                at += len(part)
            yield columns, (self.weight,)
            return
        parts = [self._rounded(part) for part in self.sources]
        integers = np.concatenate([values for values, _ in parts])
        if self.kernel.kind == "dynamic_int8":
            yield np.ascontiguousarray(integers.T), (self.values,)
        else:
            assert self.kernel.block_size is not None
            packed = pack_blocks(integers, bits=self.kernel.bits, block_size=self.kernel.block_size)
            yield packed, (self.values,)
        yield np.concatenate([scales for _, scales in parts]), (self.scales,)

    def _rounded(self, weight: torch.Tensor) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """Integers [out, in] and all scales of one part; its float values are not held while the next is made."""
        kept = kept_integers(weight, self.kernel.name)
        if kept is not None:
            integers, scales = kept
            return integers.numpy(), scales.numpy().reshape(-1)
        rounded = rounded_exactly(to_array(weight), self.kernel.name, what=self.what)
        return rounded.values, rounded.scales.reshape(-1)


class Site(nn.Module):
    """A linear site: one matrix, two factors, or pivot rows and coefficients; and the bias."""

    def __init__(self, module: torch.nn.Module, kernel: str, *, name: str) -> None:
        """Take the torch module that computes the site of that name.

        Raises:
            ExportError: it is neither a linear layer nor a factored one.
        """
        super().__init__()
        self.site_name = name
        what = f"site {name}"
        self.order_source: torch.Tensor | None = None
        self.order: nn.Parameter | None = None
        self.is_joined = isinstance(module, PivotedLinear)
        self.heads: HeadRows | HeadColumns | None = None
        if isinstance(module, PivotedLinear):
            self.right: nn.Module | None = Matrix(module.right, kernel, what=f"{what} (pivot rows)")
            self.left = Matrix(module.left, kernel, what=f"{what} (coefficients)")
            self.order_source = module.order
            if module.order is not None:
                self.order = nn.Parameter([module.out_features], ir.DataType.INT32)
        elif isinstance(module, (HeadRows, HeadColumns)):
            self.heads = module
            self.right = None
            self.left = Matrix(module.right if isinstance(module, HeadRows) else module.left, kernel, what=what)
        elif isinstance(module, FactoredLinear):
            self.right = Matrix(module.right, kernel, what=f"{what} (right factor)")
            self.left = Matrix(module.left, kernel, what=f"{what} (left factor)")
        elif isinstance(module, torch.nn.Linear):
            self.right = None
            self.left = Matrix(module.weight, kernel, what=what)
        else:
            raise ExportError(
                f"{what} is a {type(module).__name__}, which has no form in the graph; "
                "use Linear or FactoredLinear modules."
            )
        self.bias_source = module.bias
        self.bias = None if module.bias is None else nn.Parameter([module.out_features])

    def forward(self, op: Any, x: ir.Value) -> ir.Value:
        """Emit y = left (right x) + b, or y = [R x; C (R x)] in the order of the rows, + b."""
        if self.right is not None:
            x = self.right(op, x)
        if isinstance(self.heads, HeadColumns):
            heads = op.Reshape(x, [0, 0, self.heads.head_count, -1])
            x = op.Reshape(op.Slice(heads, [0], [self.heads.kept], [3]), [0, 0, -1])
        y = self.left(op, x)
        if isinstance(self.heads, HeadRows):
            missing = self.heads.out_features // self.heads.head_count - self.heads.kept
            heads = op.Reshape(y, [0, 0, self.heads.head_count, -1])
            y = op.Reshape(op.Pad(heads, [0, 0, 0, 0, 0, 0, 0, missing]), [0, 0, -1])
        if self.is_joined:
            y = op.Concat(x, y, axis=-1)
        if self.order is not None:
            # Gather along the first axis copies a run of tokens at a time: at 128 rows 1 ns an element with both
            # transpositions, where along the last axis it takes 8.
            columns = op.Transpose(y, perm=[2, 0, 1])
            y = op.Transpose(op.Gather(columns, self.order, axis=0), perm=[1, 2, 0])
        return y if self.bias is None else op.Add(y, self.bias)

    def arrays(self) -> Iterator[StoredArray]:
        """Factors, then the row order and the bias; a part of a joined product belongs to that."""
        if isinstance(self.right, Matrix):
            yield from self.right.arrays()
        yield from self.left.arrays()
        if self.order is not None:
            assert self.order_source is not None
            yield self.order_source.numpy().astype(np.int32), (self.order,)
        if self.bias is not None:
            assert self.bias_source is not None
            yield to_array(self.bias_source), (self.bias,)


def dynamic_int8_product(op: Any, x: ir.Value, values: ir.Value, scales: ir.Value) -> ir.Value:
    """Emit x times int8 weights [in, out] with one scale per column; x is rounded to uint8 with one scale."""
    quantized, x_scale, x_zero_point = op.DynamicQuantizeLinear(x, _outputs=3)
    product = op.MatMulInteger(quantized, values, x_zero_point)
    return op.Mul(op.Cast(product, to=ir.DataType.FLOAT), op.Mul(x_scale, scales))
