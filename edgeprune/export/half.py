"""A graph that computes in float16, as GPUs do fastest: activations, norms, tables and the key-value cache.

Takes a finished graph of float32 whose weights are not written yet and changes its types in place; what was float32 in
the weights is narrowed when it is written. Widening of 16-bit weights, which the CPU needs, is taken out. Logits leave
as float32, so that whoever samples from them need not know. Norms sum in float32 by their own rule (`stash_type`).
"""

import numpy as np
import onnx_ir as ir
from msgspec.structs import replace

from edgeprune.errors import ExportError
from edgeprune.schema.kernel import FLOAT16, FLOAT32, parse_kernel
from edgeprune.schema.model import ModelSpec

__all__ = ["halve_graph", "halve_spec"]


def halve_spec(spec: ModelSpec) -> ModelSpec:
    """Shapes of the same model with its float32 matrices stored in 16 bits.

    Raises:
        ExportError: a kernel that rounds activations by itself, which no GPU provider runs.
    """
    kernels = {site.name: site.kernel for block in spec.blocks for site in block.sites} | {"table": spec.table_kernel}
    dynamic = [name for name, kernel in kernels.items() if parse_kernel(kernel).kind == "dynamic_int8"]
    if dynamic:
        raise ExportError(
            f"{dynamic[0]} has the kernel dynamic_int8, which computes in float32 on the CPU alone; give it a "
            "MatMulNBits kernel such as int8_b32_a4, or export with --activations float32."
        )
    blocks = tuple(
        replace(block, sites=tuple(replace(site, kernel=_halved(site.kernel)) for site in block.sites))
        for block in spec.blocks
    )
    return replace(spec, blocks=blocks, table_kernel=_halved(spec.table_kernel))


def _halved(kernel: str) -> str:
    return FLOAT16 if kernel == FLOAT32 else kernel


def halve_graph(graph: ir.Graph) -> None:
    """Change every float32 type of a graph to float16, its logits' apart."""
    for value in graph.initializers.values():
        _halve(value)
    for node in list(graph):
        if node.op_type == "Cast" and node.attributes["to"].as_int() == ir.DataType.FLOAT:
            # After weights of 16 bits, or their rows: there is nothing left to widen.
            source = node.inputs[0]
            assert source is not None
            node.outputs[0].replace_all_uses_with(source)
            graph.remove(node, safe=True)
        elif node.op_type == "Constant":
            _halve_constant(node)
    for value in (*graph.inputs, *graph.outputs):
        if (value.name or "").startswith(("past_key_values.", "present.")) and value.dtype == ir.DataType.FLOAT:
            value.type = ir.TensorType(ir.DataType.FLOAT16)
    _widen_logits(graph)


def _halve(value: ir.Value) -> None:
    if value.dtype != ir.DataType.FLOAT:
        return
    value.type = ir.TensorType(ir.DataType.FLOAT16)
    if value.const_value is not None:
        value.const_value = ir.tensor(value.const_value.numpy().astype(np.float16), name=value.name)


def _halve_constant(node: ir.Node) -> None:
    """A constant of floats, whichever attribute holds it."""
    found = node.attributes.get("value_float")
    array = None if found is None else np.float32(found.as_float())
    if "value" in node.attributes and node.attributes["value"].as_tensor().dtype == ir.DataType.FLOAT:
        array = node.attributes["value"].as_tensor().numpy()
    if array is not None:
        node.attributes.clear()
        node.attributes["value"] = ir.AttrTensor("value", ir.tensor(np.asarray(array, np.float16)))


def _widen_logits(graph: ir.Graph) -> None:
    (logits,) = (value for value in graph.outputs if value.name == "logits")
    producer = logits.producer()
    assert producer is not None
    position = list(producer.outputs).index(logits)
    cast = ir.node("Cast", [logits], {"to": ir.DataType.FLOAT}, name="widen_logits")
    cast.outputs[0].shape, cast.outputs[0].type = logits.shape, ir.TensorType(ir.DataType.FLOAT)
    graph.append(cast)
    graph.outputs[list(graph.outputs).index(logits)] = cast.outputs[0]
    producer.outputs[position].name, cast.outputs[0].name = "logits_in_half", "logits"
    logits.shape, logits.type = None, None
