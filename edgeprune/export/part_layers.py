"""Blocks that have only one of their parts, or a repair before them, built from what mobius's own block holds.

The key-value pair mobius reserves for every block passes through unchanged where there is no attention;
`edgeprune.export.cleanup` takes it out of the finished graph.
"""

from typing import Any, TypeAlias

import onnx_ir as ir
from onnxscript import nn

from edgeprune.export.matrices import Site

__all__ = ["add_repair", "remove_attention", "remove_mlp"]

_Pair: TypeAlias = tuple[ir.Value, ir.Value]


def remove_attention(layer: nn.Module, *, attention: str, norm: str, mlp: str, mlp_norm: str) -> None:
    """Make a pre-norm block of mobius its MLP alone, in place; the names are the block's attributes."""
    delattr(layer, attention)
    delattr(layer, norm)

    def forward(
        op: Any, hidden_states: ir.Value, *args: Any, past_key_value: _Pair, **kwargs: Any
    ) -> tuple[ir.Value, _Pair]:
        key, value = past_key_value
        update = getattr(layer, mlp)(op, getattr(layer, mlp_norm)(op, hidden_states))
        return op.Add(hidden_states, update), (op.Identity(key), op.Identity(value))

    layer.forward = forward


def remove_mlp(layer: nn.Module, *, attention: str, norm: str, mlp: str, mlp_norm: str) -> None:
    """Make a pre-norm block of mobius its attention alone, in place; the names are the block's attributes."""
    delattr(layer, mlp)
    delattr(layer, mlp_norm)

    def forward(op: Any, hidden_states: ir.Value, *args: Any, **kwargs: Any) -> tuple[ir.Value, _Pair]:
        update, present = getattr(layer, attention)(op, getattr(layer, norm)(op, hidden_states), *args, **kwargs)
        return op.Add(hidden_states, update), present

    layer.forward = forward


def add_repair(layer: nn.Module, operator: Site) -> None:
    """Let x + operator(x) be what a block of mobius reads, in place; after its parts are as they will be."""
    layer.repair = operator
    inner = layer.forward

    def forward(op: Any, hidden_states: ir.Value, *args: Any, **kwargs: Any) -> tuple[ir.Value, _Pair]:
        repaired = op.Add(hidden_states, operator(op, hidden_states))
        output: tuple[ir.Value, _Pair] = inner(op, repaired, *args, **kwargs)
        return output

    layer.forward = forward
