"""A bundle's graph with float32 activations everywhere: same weights, same bytes, no rounding on the way.

MatMulNBits is asked for accuracy level 0. DynamicQuantizeLinear and MatMulInteger become a float32 MatMul by the same
integers, with a scale of one where the activations' scale was; the per-column scales stay where they are.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgeprune.export.weights import GRAPH_FILE
from edgeprune.schema.kernel import Kernel, parse_kernel
from edgeprune.schema.model import ModelSpec

__all__ = ["exact_graph", "rounds_activations"]


def rounds_activations(spec: ModelSpec) -> bool:
    """Whether a kernel of the model rounds activations."""
    kernels = {site.kernel for block in spec.blocks for site in block.sites} | {spec.table_kernel}
    return any(_rounds(parse_kernel(kernel)) for kernel in kernels)


@contextlib.contextmanager
def exact_graph(folder: Path) -> Iterator[Path]:
    """Write the graph beside the bundle's own, which shares its data file; it is gone afterwards."""
    model = ir.load(folder / GRAPH_FILE)
    for node in list(model.graph):
        if node.op_type == "MatMulNBits":
            node.attributes["accuracy_level"] = ir.AttrInt64("accuracy_level", 0)
        elif node.op_type == "MatMulInteger":
            _in_floats(model.graph, node)
    path = folder / f"exact-{GRAPH_FILE}"
    try:
        path.write_bytes(ir.to_proto(model).SerializeToString())
        yield path
    finally:
        path.unlink(missing_ok=True)


def _rounds(kernel: Kernel) -> bool:
    # Levels 2, 3 and 4 are float16, bfloat16 and int8; 0 leaves the choice to the runtime, which takes float32.
    return kernel.kind == "dynamic_int8" or (kernel.accuracy_level or 0) > 1


def _in_floats(graph: ir.Graph, node: ir.Node) -> None:
    """Replace one MatMulInteger, and what rounds its input, by a float32 MatMul."""
    quantized, values = node.inputs[0], node.inputs[1]
    assert quantized is not None
    assert values is not None
    rounding = quantized.producer()
    assert rounding is not None
    assert rounding.op_type == "DynamicQuantizeLinear", rounding.op_type
    (cast,) = (use.node for use in node.outputs[0].uses())
    one = ir.node("Constant", [], {"value": ir.tensor(np.float32(1))})
    widened = ir.node("Cast", [values], {"to": ir.DataType.FLOAT})
    product = ir.node("MatMul", [rounding.inputs[0], widened.outputs[0]])
    graph.insert_before(rounding, one)
    graph.insert_before(node, (widened, product))
    rounding.outputs[1].replace_all_uses_with(one.outputs[0])
    cast.outputs[0].replace_all_uses_with(product.outputs[0])
    graph.remove((cast, node), safe=True)
