"""An int8 key-value cache in a finished graph: GroupQueryAttention reads and writes 8 bits with a scale per channel.

The operator takes the scales of keys and values, [1, kv_heads, 1, head_dim] float32, as its last two inputs; the types
of past and present follow. Per channel is what onnxruntime-genai and onnxruntime's CPU provider both run.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from edgeprune.calibrate.kv_rounding import CacheScales
from edgeprune.errors import ExportError

__all__ = ["CACHE_ONNXRUNTIME", "quantize_cache"]

CACHE_ONNXRUNTIME = "1.27"
"""Oldest onnxruntime whose CPU provider runs an int8 cache."""

_SCALES_AT = 12
"""Inputs 12 and 13 are k_scale and v_scale; 9 to 11 are positions, a bias and sinks."""


def quantize_cache(graph: ir.Graph, scales: Sequence[CacheScales]) -> None:
    """Turn the float cache of a graph into int8, in place.

    Args:
        graph: with names and shapes as a bundle has them.
        scales: of each key-value pair, in order.

    Raises:
        ExportError: attention is not GroupQueryAttention, or the pairs are not as many as the scales.
    """
    nodes = list(_attention_nodes(graph))
    if len(nodes) != len(scales):
        raise ExportError(
            f"The graph has {len(nodes)} GroupQueryAttention nodes for {len(scales)} key-value pairs, so its cache "
            "cannot have 8 bits; export with --kv-bits 32."
        )
    for pair, node in nodes:
        initializers = []
        for name, scale in (("key", scales[pair].key), ("value", scales[pair].value)):
            array = np.ascontiguousarray(scale.numpy()[None, :, None, :], dtype=np.float32)
            tensor = ir.tensor(array, name=f"cache.{pair}.{name}_scale")
            value = ir.Value(name=tensor.name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
            graph.register_initializer(value)
            initializers.append(value)
        node.resize_inputs(_SCALES_AT + 2)
        for offset, value in enumerate(initializers):
            node.replace_input_with(_SCALES_AT + offset, value)
        node.attributes["k_quant_type"] = ir.AttrString("k_quant_type", "PER_CHANNEL")
        node.attributes["v_quant_type"] = ir.AttrString("v_quant_type", "PER_CHANNEL")
        node.attributes["kv_cache_bit_width"] = ir.AttrInt64("kv_cache_bit_width", 8)
    for value in (*graph.inputs, *graph.outputs):
        if (value.name or "").startswith(("past_key_values.", "present.")):
            value.type = ir.TensorType(ir.DataType.INT8)


def _attention_nodes(graph: ir.Graph) -> Iterator[tuple[int, ir.Node]]:
    """Number of the key-value pair and the node that owns it."""
    for node in graph:
        past = node.inputs[3] if node.op_type == "GroupQueryAttention" and len(node.inputs) > 3 else None
        if past is not None:
            yield int((past.name or "").split(".")[1]), node
