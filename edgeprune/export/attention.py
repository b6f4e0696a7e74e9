"""Attention whose query, key and value are one site (GPT-2), so that the site keeps its one matrix and one rank.

mobius splits such a matrix into three linear layers; this module keeps it whole and splits the product. The fusion
that follows turns `Attention` into GroupQueryAttention; `pack_split_attention` then gives that operator the product
itself (it accepts query, key and value packed in one tensor), and the Split disappears. Three sites that were packed
into one product (`edgeprune.export.packed`) are joined to it the same way.
"""

from typing import Any

import onnx_ir as ir
from onnxscript import nn

from edgeprune.export.matrices import Site

__all__ = ["FusedAttention", "pack_split_attention"]


class FusedAttention(nn.Module):
    """Self-attention over one fused qkv site; the signature mobius calls its own attention with."""

    def __init__(self, qkv: Site, o: Site, *, num_heads: int, head_dim: int) -> None:
        """Take both sites and the head layout; scores are scaled by 1 / sqrt(head_dim)."""
        super().__init__()
        self.qkv = qkv
        self.o = o
        self.num_heads = num_heads
        self.scale = head_dim**-0.5

    def forward(
        self,
        op: Any,
        hidden_states: ir.Value,
        attention_bias: ir.Value,
        past_key_value: tuple[ir.Value, ir.Value],
    ) -> tuple[ir.Value, tuple[ir.Value, ir.Value]]:
        """Emit attention; gives the output and the present key and value."""
        query, key, value = op.Split(self.qkv(op, hidden_states), axis=-1, num_outputs=3, _outputs=3)
        output, present_key, present_value = op.Attention(
            query,
            key,
            value,
            attention_bias,
            past_key_value[0],
            past_key_value[1],
            q_num_heads=self.num_heads,
            kv_num_heads=self.num_heads,
            scale=self.scale,
            softcap=0.0,
            is_causal=1,
            _outputs=3,
        )
        return self.o(op, output), (present_key, present_value)


def pack_split_attention(graph: ir.Graph) -> None:
    """Feed GroupQueryAttention the packed product where its three inputs are the three outputs of one Split."""
    for node in list(graph):
        if node.op_type != "GroupQueryAttention" or node.inputs[1] is None or node.inputs[2] is None:
            continue
        split = node.inputs[0].producer() if node.inputs[0] is not None else None
        if split is None or split.op_type != "Split" or tuple(node.inputs[:3]) != tuple(split.outputs):
            continue
        node.replace_input_with(0, split.inputs[0])
        node.replace_input_with(1, None)
        node.replace_input_with(2, None)
        if not any(output.uses() for output in split.outputs):
            sizes = split.inputs[1] if len(split.inputs) > 1 else None
            graph.remove(split, safe=True)
            if sizes is not None and sizes.is_initializer() and sizes.name is not None and not sizes.uses():
                graph.initializers.pop(sizes.name)
