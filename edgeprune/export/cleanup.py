"""What is left to do on a graph after mobius: names and shapes of inputs and outputs, operator versions, dead weight.

Inputs and outputs follow the ecosystem (onnxruntime-genai, lm-eval): symbolic dimensions `batch_size`,
`sequence_length`, `past_sequence_length`, `total_sequence_length`; key/value heads and head size are static and may
differ from block to block. Nodes and weights of a site carry the site's name, so that a runtime's profile reads like a
recipe. Notes, type annotations, long names and fallback function bodies are removed: they were three quarters of the
graph's bytes.
"""

from collections.abc import Mapping

import onnx_ir as ir

from edgeprune.schema.model import ModelSpec

__all__ = ["OPSET", "clean_graph", "name_parts"]

OPSET = 21
"""Default-domain operator set written into the graph; onnxruntime 1.23, the oldest supported, knows it."""


def clean_graph(model: ir.Model, spec: ModelSpec, *, last_logits: bool = False) -> None:
    """Bring a built graph into the bundle's form, in place; `last_logits`: of the last position alone."""
    graph = model.graph
    _drop_unused_caches(graph, spec)
    _name_dimensions(graph, spec, last_logits=last_logits)
    _plain_norms(graph)
    model.functions.clear()
    _drop_notes(model)
    graph.opset_imports[""] = OPSET
    graph.opset_imports["com.microsoft"] = 1
    model.producer_name = "edgeprune"
    model.producer_version = None
    graph.name = "decoder"


def name_parts(graph: ir.Graph, weights: Mapping[str, str]) -> None:
    """Give short names: sites and tables as in `weights` (name by mobius -> ours), all else numbers.

    Outputs that nothing reads lose their name, which tells the runtime not to compute them.
    """
    inputs_and_outputs = {id(value) for value in (*graph.inputs, *graph.outputs)}
    for old, new in weights.items():
        graph.initializers[old].name = new
    taken: set[str] = set()
    for number, node in enumerate(graph):
        matrices = [value.name for value in node.inputs if value is not None and value.is_initializer()]
        stems = {name.rpartition(".")[0] for name in matrices if name and name.endswith((".weight", ".values"))}
        stem = stems.pop() if len(stems) == 1 else ""
        if not stem or stem in taken:
            stem = str(number)
        taken.add(stem)
        node.name = stem
        for position, output in enumerate(node.outputs):
            if id(output) in inputs_and_outputs:
                continue
            output.name = (stem if position == 0 else f"{stem}:{position}") if output.uses() else ""


def _drop_unused_caches(graph: ir.Graph, spec: ModelSpec) -> None:
    """Blocks without attention have no key-value pair; those of the others are numbered from 0 without a gap."""
    numbers = {
        at: number for number, at in enumerate(at for at, block in enumerate(spec.blocks) if block.has_attention)
    }
    if len(numbers) == len(spec.blocks):
        return
    passed = [value.producer() for value in graph.outputs if _pair_position(value) not in numbers]
    for values in (graph.outputs, graph.inputs):
        for value in list(values):
            position = _pair_position(value)
            if position is None:
                continue
            if position not in numbers:
                values.remove(value)
            else:
                stem, _, part = (value.name or "").split(".")
                value.name = f"{stem}.{numbers[position]}.{part}"
    for node in passed:
        if node is not None and node.op_type == "Identity":
            graph.remove(node, safe=True)


def _pair_position(value: ir.Value) -> int | None:
    """Block position in the name of a past or present tensor; None for other inputs and outputs."""
    stem, _, rest = (value.name or "").partition(".")
    return int(rest.split(".")[0]) if stem in ("past_key_values", "present") else None


def _name_dimensions(graph: ir.Graph, spec: ModelSpec, *, last_logits: bool) -> None:
    for value in graph.inputs:
        name = value.name or ""
        if name.startswith("past_key_values."):
            block = spec.attention_blocks[int(name.split(".")[1])]
            value.shape = ir.Shape(["batch_size", block.num_kv_heads, "past_sequence_length", block.head_dim])
        elif name == "attention_mask":
            value.shape = ir.Shape(["batch_size", "total_sequence_length"])
        else:
            value.shape = ir.Shape(["batch_size", "sequence_length"])
    for value in graph.outputs:
        name = value.name or ""
        if name.startswith("present."):
            block = spec.attention_blocks[int(name.split(".")[1])]
            value.shape = ir.Shape(["batch_size", block.num_kv_heads, "total_sequence_length", block.head_dim])
            value.type = ir.TensorType(ir.DataType.FLOAT)
        else:
            value.shape = ir.Shape(["batch_size", 1 if last_logits else "sequence_length", spec.vocab_size])
            value.type = ir.TensorType(ir.DataType.FLOAT)


def _plain_norms(graph: ir.Graph) -> None:
    """RMSNormalization came with operator set 23; SimplifiedLayerNormalization is the same kernel, known for longer."""
    for node in graph:
        if node.op_type == "RMSNormalization":
            node.op_type = "SimplifiedLayerNormalization"


def _drop_notes(model: ir.Model) -> None:
    graph = model.graph
    model.metadata_props.clear()
    graph.metadata_props.clear()
    kept = {id(value) for value in (*graph.inputs, *graph.outputs)}
    for value in (*graph.initializers.values(), *graph.inputs, *graph.outputs):
        value.metadata_props.clear()
        value.doc_string = None
    for node in graph:
        node.metadata_props.clear()
        node.doc_string = None
        for output in node.outputs:
            output.metadata_props.clear()
            if id(output) not in kept:
                output.type = None
                output.shape = None
