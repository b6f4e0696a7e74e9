"""Embedding and head under each table kernel; a tied table is written once and read by both.

Two initializers point at the same bytes of the data file (offset and length), each with the shape its operator wants.
That is better than one shared initializer: onnxruntime prepares a MatMul's weights in a copy and lets go of the file
afterwards, but keeps mapping it for as long as the embedding needs the same initializer. With two, the embedding's
mapping costs only the rows it reads (measured on 8,192 x 256 in float32: 8 MiB less resident memory, the table's size).

Float tables are stored [vocab, hidden]: rows for the embedding are then contiguous, and the head multiplies by the
transpose (FusedMatMul), which the runtime prepares exactly as it does a plain MatMul.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from onnxscript import nn

from edgeprune.export.matrices import Matrix, StoredArray, dynamic_int8_product, to_array, to_half
from edgeprune.export.packing import block_count, pack_blocks, rounded_exactly
from edgeprune.schema.kernel import Kernel, parse_kernel

__all__ = ["EmbeddingTable", "HeadTable"]

_TO_THE_END = 2**31 - 1


class EmbeddingTable(nn.Module):
    """Rows of the vocabulary table by token id, [batch, sequence] int64 -> [batch, sequence, hidden] float32."""

    def __init__(self, weight: torch.Tensor, kernel: str) -> None:
        """Take the table [vocab, hidden]."""
        super().__init__()
        self.source = weight
        self.kernel: Kernel = parse_kernel(kernel)
        self.vocab_size, self.hidden_size = weight.shape
        if self.kernel.kind == "float":
            dtype = ir.DataType.FLOAT if self.kernel.bits == 32 else ir.DataType.FLOAT16
            self.weight = nn.Parameter([self.vocab_size, self.hidden_size], dtype)
        elif self.kernel.kind == "dynamic_int8":
            # MatMulInteger reads [in, out] and cannot transpose, so this table alone is stored [hidden, vocab].
            self.values = nn.Parameter([self.hidden_size, self.vocab_size], ir.DataType.INT8)
            self.scales = nn.Parameter([self.vocab_size])
        else:
            assert self.kernel.block_size is not None
            self.blocks = block_count(self.hidden_size, self.kernel.block_size)
            bytes_per_block = self.kernel.block_size * self.kernel.bits // 8
            self.values = nn.Parameter([self.vocab_size, self.blocks, bytes_per_block], ir.DataType.UINT8)
            self.scales = nn.Parameter([self.vocab_size, self.blocks, 1])

    def forward(self, op: Any, input_ids: ir.Value) -> ir.Value:
        """Emit the look-up."""
        if self.kernel.kind == "float":
            rows = op.Gather(self.weight, input_ids)
            return rows if self.kernel.bits == 32 else op.Cast(rows, to=ir.DataType.FLOAT)
        if self.kernel.kind == "dynamic_int8":
            columns = op.Cast(op.Gather(self.values, input_ids, axis=1), to=ir.DataType.FLOAT)
            return op.Transpose(op.Mul(columns, op.Gather(self.scales, input_ids)), perm=[1, 2, 0])
        rows = op.GatherBlockQuantized(
            self.values,
            input_ids,
            self.scales,
            gather_axis=0,
            quantize_axis=2,
            bits=self.kernel.bits,
            block_size=self.kernel.block_size,
            _domain="com.microsoft",
        )
        rows = op.Reshape(rows, [0, 0, -1])
        assert self.kernel.block_size is not None
        if self.blocks * self.kernel.block_size != self.hidden_size:
            rows = op.Slice(rows, [0], [self.hidden_size], [2])
        return rows

    def arrays(self, *, tied: "HeadTable | None" = None) -> Iterator[StoredArray]:
        """The table's bytes, read by the head too when it is tied."""
        shared = {} if tied is None else tied.parameters_by_name()

        def readers(name: str, own: ir.Value) -> tuple[ir.Value, ...]:
            return (own, shared[name]) if name in shared else (own,)

        weight = to_array(self.source)
        if self.kernel.kind == "float":
            stored = weight if self.kernel.bits == 32 else to_half(weight, "the embedding table")
            yield np.ascontiguousarray(stored), readers("weight", self.weight)
            return
        rounded = rounded_exactly(weight, self.kernel.name, what="the embedding table")
        if self.kernel.kind == "dynamic_int8":
            yield np.ascontiguousarray(rounded.values.T), readers("values", self.values)
        else:
            assert self.kernel.block_size is not None
            packed = pack_blocks(rounded.values, bits=self.kernel.bits, block_size=self.kernel.block_size)
            yield packed, readers("values", self.values)
        yield rounded.scales.reshape(-1), readers("scales", self.scales)


class HeadTable(nn.Module):
    """Logits, [batch, sequence, hidden] -> [batch, sequence, vocab] float32."""

    def __init__(self, weight: torch.Tensor, kernel: str, *, last_only: bool = False) -> None:
        """Take the table [vocab, hidden]; tied or not decides only who stores the bytes.

        With `last_only` a prompt's logits are those after its last token, [batch, 1, vocab].
        """
        super().__init__()
        self.last_only = last_only
        self.kernel: Kernel = parse_kernel(kernel)
        self.source = weight
        if self.kernel.kind == "float":
            dtype = ir.DataType.FLOAT if self.kernel.bits == 32 else ir.DataType.FLOAT16
            self.weight = nn.Parameter(list(weight.shape), dtype)
            return
        matrix = Matrix(weight, kernel, what="the head table")
        self.values = matrix.values
        self.scales = matrix.scales
        # Not a child module: its parameters belong to this one, under this one's names.
        object.__setattr__(self, "matrix", matrix)

    def forward(self, op: Any, hidden_states: ir.Value) -> ir.Value:
        """Emit the product with the table's transpose."""
        if self.last_only:
            hidden_states = op.Slice(hidden_states, [-1], [_TO_THE_END], [1])
        if self.kernel.kind == "float":
            weight = self.weight if self.kernel.bits == 32 else op.Cast(self.weight, to=ir.DataType.FLOAT)
            return op.FusedMatMul(hidden_states, weight, transB=1, _domain="com.microsoft")
        if self.kernel.kind == "dynamic_int8":
            return dynamic_int8_product(op, hidden_states, self.values, self.scales)
        matrix: Matrix = self.matrix
        return matrix.forward(op, hidden_states)

    def parameters_by_name(self) -> dict[str, ir.Value]:
        """The initializers under their own names: `weight`, or `values` and `scales`."""
        if self.kernel.kind == "float":
            return {"weight": self.weight}
        return {"values": self.values, "scales": self.scales}

    def arrays(self) -> Iterator[StoredArray]:
        """The bytes of a head that is not tied."""
        if self.kernel.kind == "float":
            weight = to_array(self.source)
            stored = weight if self.kernel.bits == 32 else to_half(weight, "the head table")
            yield np.ascontiguousarray(stored), (self.weight,)
            return
        matrix: Matrix = self.matrix
        yield from matrix.arrays()
