"""A decoder wired by us from an adapter's facts, for the families that mobius 0.1.0 wires wrongly or not at all.

It is a module like mobius's own and is built by it: the same inputs and outputs, the same fusions of norms and
residuals. Attention is emitted as GroupQueryAttention at once, because the rule that makes it from the standard
operator loses each block's window. Sites, tables and their kernels are the exporter's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
from onnxscript import nn

from edgeprune.errors import ExportError
from edgeprune.export.matrices import Site
from edgeprune.export.packed import ATTENTION_ROLES, PackedBlock
from edgeprune.export.tables import EmbeddingTable, HeadTable
from edgeprune.intake.adapters.wiring import AttentionWiring, BlockWiring, DecoderWiring, NormWiring, RotaryTable
from edgeprune.schema.model import BlockSpec, SiteRole

__all__ = ["ACTIVATIONS", "Norm", "WiredBlock", "WiredDecoder", "takes_packed"]

_Pair = tuple[ir.Value, ir.Value]

ACTIVATIONS = ("silu", "swish", "gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "relu")
"""Names in transformers that `_activate` knows; the three with a suffix are one formula."""


@dataclass(frozen=True)
class _Lengths:
    """What every attention of a run reads."""

    last_position: ir.Value
    """[batch] int32: tokens in the cache after this run, less one."""
    total: ir.Value
    """[] int32: the same for the longest row, not less one."""
    position_ids: ir.Value


class Norm(nn.Module):
    """One norm over the last axis."""

    def __init__(self, wiring: NormWiring) -> None:
        """Take its gain and bias."""
        super().__init__()
        self.wiring = wiring
        self.weight = nn.Parameter([len(wiring.gain)])
        self.bias = None if wiring.bias is None else nn.Parameter([len(wiring.bias)])

    def forward(self, op: Any, x: ir.Value) -> ir.Value:
        """Emit the norm."""
        if self.wiring.kind == "rms":
            return op.RMSNormalization(x, self.weight, epsilon=self.wiring.epsilon, axis=-1)
        return op.LayerNormalization(x, self.weight, self.bias, epsilon=self.wiring.epsilon, axis=-1)


class _Attention(nn.Module):
    def __init__(
        self,
        wiring: AttentionWiring,
        block: BlockSpec,
        packed: PackedBlock,
        context: int,
    ) -> None:
        super().__init__()
        self.packed = packed.attention
        self.o = packed.sites["o"]
        if self.packed is None:
            self.q, self.k, self.v = (packed.sites[role] for role in ATTENTION_ROLES)
        self.query_norm = None if wiring.query_norm is None else Norm(wiring.query_norm)
        self.key_norm = None if wiring.key_norm is None else Norm(wiring.key_norm)
        self.wiring = wiring
        self.block = block
        window = wiring.window
        self.attributes: dict[str, Any] = {
            "num_heads": block.num_heads,
            "kv_num_heads": block.num_kv_heads,
            "scale": wiring.scale,
        }
        # A window that no text of this context fills is left out: the kernel is then the plain causal one.
        if window is not None and window < context:
            self.attributes["local_window_size"] = window
        if wiring.logit_cap is not None:
            self.attributes["softcap"] = wiring.logit_cap

    def forward(
        self, op: Any, x: ir.Value, lengths: _Lengths, tables: Mapping[str, _Pair], past: _Pair
    ) -> tuple[ir.Value, _Pair]:
        table = None if self.wiring.rotary is None else tables[self.wiring.rotary]
        is_rotated_inside = table is not None and _rotates_inside(_columns(table), self.block.head_dim)
        inputs: list[ir.Value | None] = [*past, lengths.last_position, lengths.total]
        if self.packed is not None:
            inputs = [self.packed(op, x), None, None, *inputs]
        else:
            query, key, value = self.q(op, x), self.k(op, x), self.v(op, x)
            if self.query_norm is not None:
                query = self._by_head(op, query, self.query_norm)
            if self.key_norm is not None:
                key = self._by_head(op, key, self.key_norm)
            if table is not None and not is_rotated_inside:
                query = self._rotate(op, query, self.block.num_heads, lengths, table)
                key = self._rotate(op, key, self.block.num_kv_heads, lengths, table)
            inputs = [query, key, value, *inputs]
        attributes = dict(self.attributes)
        if table is not None and is_rotated_inside:
            inputs += table
            attributes |= {"do_rotary": 1, "rotary_interleaved": 0}
        output, present_key, present_value = op.GroupQueryAttention(
            *inputs, **attributes, _domain="com.microsoft", _outputs=3
        )
        return self.o(op, output), (present_key, present_value)

    def _by_head(self, op: Any, x: ir.Value, norm: Norm) -> ir.Value:
        heads = op.Reshape(x, [0, 0, -1, self.block.head_dim])
        return op.Reshape(norm(op, heads), [0, 0, -1])

    def _rotate(self, op: Any, x: ir.Value, head_count: int, lengths: _Lengths, table: _Pair) -> ir.Value:
        rotary_dim = 2 * _columns(table)
        attributes = {} if rotary_dim == self.block.head_dim else {"rotary_embedding_dim": rotary_dim}
        return op.RotaryEmbedding(
            x, lengths.position_ids, *table, num_heads=head_count, **attributes, _domain="com.microsoft"
        )


class _Mlp(nn.Module):
    def __init__(self, sites: Mapping[SiteRole, nn.Module], activation: str) -> None:
        super().__init__()
        self.gate = sites.get("gate")
        self.up = sites["up"]
        self.down = sites["down"]
        self.activation = activation

    def forward(self, op: Any, x: ir.Value) -> ir.Value:
        if self.gate is None:
            return self.down(op, _activate(op, self.up(op, x), self.activation))
        return self.down(op, op.Mul(_activate(op, self.gate(op, x), self.activation), self.up(op, x)))


def takes_packed(wiring: BlockWiring, block: BlockSpec, rotary: Mapping[str, RotaryTable]) -> bool:
    """Whether nothing stands between query and key and the attention of a block."""
    attention = wiring.attention
    if attention is None or attention.query_norm is not None or attention.key_norm is not None:
        return False
    return attention.rotary is None or _rotates_inside(rotary[attention.rotary][0].shape[1], block.head_dim)


class WiredBlock(nn.Module):
    """One block, in its parts that are left."""

    def __init__(
        self,
        wiring: BlockWiring,
        block: BlockSpec,
        packed: PackedBlock,
        *,
        repair: Site | None,
        activation: str,
        context_tokens: int,
    ) -> None:
        """Take the facts, the sites, some of them together, and the operator on the block's input."""
        super().__init__()
        self.repair = repair
        self.is_parallel = wiring.is_parallel
        attention = wiring.attention
        self.attention = None if attention is None else _Attention(attention, block, packed, context_tokens)
        self.mlp = _Mlp(packed.modules, activation) if block.has_mlp else None
        self.attention_norm, self.attention_out_norm, self.mlp_norm, self.mlp_out_norm = (
            None if norm is None else Norm(norm)
            for norm in (wiring.attention_norm, wiring.attention_out_norm, wiring.mlp_norm, wiring.mlp_out_norm)
        )

    def forward(
        self, op: Any, x: ir.Value, lengths: _Lengths, tables: Mapping[str, _Pair], past: _Pair
    ) -> tuple[ir.Value, _Pair]:
        """Emit the block: residual stream in and out, past to present."""
        if self.repair is not None:
            x = op.Add(x, self.repair(op, x))
        read = x
        if self.attention is None:
            # Passes through; `edgeprune.export.cleanup` takes it out of the finished graph.
            present = (op.Identity(past[0]), op.Identity(past[1]))
        else:
            update, present = self.attention(op, _applied(op, self.attention_norm, x), lengths, tables, past)
            x = op.Add(x, _applied(op, self.attention_out_norm, update))
        if self.mlp is not None:
            update = self.mlp(op, _applied(op, self.mlp_norm, read if self.is_parallel else x))
            x = op.Add(x, _applied(op, self.mlp_out_norm, update))
        return x, present


class WiredDecoder(nn.Module):
    """The whole decoder; the signature mobius builds language models with."""

    def __init__(
        self, wiring: DecoderWiring, blocks: list[WiredBlock], embedding: EmbeddingTable, head: HeadTable
    ) -> None:
        """Take the parts.

        Raises:
            ExportError: an activation that no operator here computes.
        """
        super().__init__()
        if wiring.activation not in ACTIVATIONS:
            raise ExportError(
                f"The activation {wiring.activation!r} has no form in the graph; {', '.join(ACTIVATIONS)} have."
            )
        self.wiring = wiring
        self.embedding = embedding
        self.head = head
        self.layers = nn.ModuleList(blocks)
        self.final_norm = Norm(wiring.final_norm)
        self.positions = None if wiring.positions is None else nn.Parameter(list(wiring.positions.shape))
        self.tables: dict[str, _Pair] = {}
        for key, table in wiring.rotary.items():
            names = (f"{key}_cosines", f"{key}_sines")
            for name, tensor in zip(names, table, strict=True):
                array = tensor.numpy()
                setattr(self, name, nn.Parameter(list(array.shape), name=name, data=ir.tensor(array)))
            self.tables[key] = (getattr(self, names[0]), getattr(self, names[1]))

    def forward(
        self,
        op: Any,
        input_ids: ir.Value,
        attention_mask: ir.Value,
        position_ids: ir.Value,
        past_key_values: list[_Pair],
    ) -> tuple[ir.Value, list[_Pair]]:
        """Emit logits and the present keys and values of every block."""
        int32 = ir.DataType.INT32
        count = op.ReduceSum(attention_mask, [1], keepdims=0)
        lengths = _Lengths(
            last_position=op.Cast(op.Sub(count, op.Constant(value_int=1)), to=int32),
            total=op.Cast(op.Gather(op.Shape(attention_mask), op.Constant(value_int=1)), to=int32),
            position_ids=position_ids,
        )
        x = self.embedding(op, input_ids)
        if self.wiring.embedding_scale is not None:
            x = op.Mul(x, op.Constant(value_float=self.wiring.embedding_scale))
        if self.positions is not None:
            x = op.Add(x, op.Gather(self.positions, position_ids))
        presents = []
        for block, past in zip(self.layers, past_key_values, strict=True):
            x, present = block(op, x, lengths, self.tables, past)
            presents.append(present)
        logits = self.head(op, self.final_norm(op, x))
        if self.wiring.logit_cap is not None:
            cap = op.Constant(value_float=self.wiring.logit_cap)
            logits = op.Mul(op.Tanh(op.Div(logits, cap)), cap)
        return logits, presents


def _applied(op: Any, norm: Norm | None, x: ir.Value) -> ir.Value:
    return x if norm is None else norm(op, x)


def _columns(table: _Pair) -> int:
    shape = table[0].shape
    assert shape is not None
    return int(shape.numpy()[1])


def _rotates_inside(columns: int, head_dim: int) -> bool:
    """Whether GroupQueryAttention takes a table: its kernel wants a multiple of 8 columns (seen in 1.31)."""
    return columns % 8 == 0 and head_dim % 16 == 0


def _activate(op: Any, x: ir.Value, name: str) -> ir.Value:
    if name in ("silu", "swish"):
        return op.Mul(x, op.Sigmoid(x))
    if name == "relu":
        return op.Relu(x)
    return op.Gelu(x) if name == "gelu" else op.Gelu(x, approximate="tanh")
