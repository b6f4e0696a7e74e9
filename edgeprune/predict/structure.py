"""What the exported graph is made of: nodes a block, a site and a table need, and their bytes in the graph file.

Takes shapes and kernel names, gives counts; `disk` adds the bytes, `latency` and `memory` price the nodes. Counts and
bytes follow the graphs the exporter writes (12 exported graphs of a 16-block Llama: total within 2 %). Node counts are
those that run: what the runtime folds away while loading (the Cast of a 16-bit weight) has bytes but is no node.
"""

from typing import NamedTuple

from edgeprune.schema.kernel import parse_kernel
from edgeprune.schema.model import BlockSpec, ModelSpec, SiteSpec
from edgeprune.shapes import stored_matrices
from edgeprune.value_heads import HEAD_FORMS

__all__ = [
    "Parts",
    "block_parts",
    "fixed_parts",
    "packed_bytes",
    "repair_addition_parts",
    "site_parts",
    "table_parts",
]

NODE_BYTES = 105
"""A node with its qualified names."""
NBITS_NODE_BYTES = 225
"""MatMulNBits: five attributes more."""
DYNAMIC_NODES_BYTES = 370
"""The five nodes of a dynamically quantised product."""
CAST_BYTES = 30
INITIALIZER_BYTES = 97
"""Name, dims, and where in the data file its bytes stand."""
SPLIT_BYTES = 170
"""A Split with its sizes, which stay inside the graph."""
HEAD_NODES = 3
"""Reshape, Pad and Reshape behind v with few values a head; Reshape, Slice and Reshape before its o."""
REORDER_NODES = 4
"""Concat, Transpose, Gather and Transpose."""
BINDING_BYTES = 300
"""One past/present pair: four value infos with symbolic dimensions."""
CACHE_BYTES = 110
"""Three attributes more on an attention node whose cache has 8 bits."""
GRAPH_BYTES = 1_200
"""Header, opset imports, metadata, token inputs and the logits."""


class Parts(NamedTuple):
    """A piece of the graph."""

    matrix_nodes: int
    """Nodes whose time is in the kernel table."""
    other_nodes: int
    """Nodes that cost a node's fixed time; matrix and attention nodes not counted."""
    attention_nodes: int
    bindings: int
    """Past/present pairs."""
    graph_bytes: int
    """Bytes in the graph file."""

    @property
    def nodes(self) -> int:
        """All nodes that run."""
        return self.matrix_nodes + self.other_nodes + self.attention_nodes


def _matrix(kernel: str) -> tuple[int, int, int]:
    """Nodes that run, initializers, and bytes of one matrix product."""
    parsed = parse_kernel(kernel)
    if parsed.kind == "matmul_nbits":
        return 1, 2, NBITS_NODE_BYTES + 2 * INITIALIZER_BYTES
    if parsed.kind == "dynamic_int8":
        # onnxruntime fuses the five into two: DynamicQuantizeLinear and MatMulIntegerToFloat.
        return 2, 2, DYNAMIC_NODES_BYTES + 2 * INITIALIZER_BYTES
    return 1, 1, NODE_BYTES + INITIALIZER_BYTES + (CAST_BYTES if parsed.bits == 16 else 0)


def site_parts(kernel: str, site: SiteSpec) -> Parts:
    """One site: one matrix product or two, the addition of its bias, what joins and orders the rows of a pivot form."""
    nodes, _, size = _matrix(kernel)
    factors = len(stored_matrices(site.in_features, site.out_features, site.rank, site.form))
    bias = 1 if site.has_bias else 0
    ordering = 0
    if site.rank is not None:
        placing = HEAD_NODES if site.form in HEAD_FORMS else int(site.form == "pivot")
        ordering = REORDER_NODES if site.has_row_order else placing
    return Parts(
        matrix_nodes=factors * nodes,
        other_nodes=bias + ordering,
        attention_nodes=0,
        bindings=0,
        graph_bytes=factors * size
        + (bias + ordering) * NODE_BYTES
        + (bias + int(site.has_row_order)) * INITIALIZER_BYTES,
    )


def block_parts(spec: ModelSpec, block: BlockSpec) -> Parts:
    """A block apart from its sites: a norm and attention with one past/present pair; a norm and the activation."""
    norm_bytes = (1 if spec.norm_kind == "rms" else 2) * INITIALIZER_BYTES
    attends, has_mlp = int(block.has_attention), int(block.has_mlp)
    # SiLU is Sigmoid and Mul, and the product with up is one more; an ungated MLP has the activation alone.
    nodes = attends + has_mlp * (1 + (3 if spec.is_gated else 1))
    return Parts(
        matrix_nodes=0,
        other_nodes=nodes,
        attention_nodes=attends,
        bindings=attends,
        graph_bytes=(nodes + 2 * attends) * NODE_BYTES
        + (attends + has_mlp) * norm_bytes
        + attends * BINDING_BYTES
        + attends * int(block.kv_bits == 8) * (CACHE_BYTES + 2 * INITIALIZER_BYTES),
    )


def packed_bytes(kernel: str, *, count: int, has_bias: bool, is_split: bool) -> int:
    """Bytes of the graph file that `count` sites of a kernel in one product save against products of their own."""
    _, _, size = _matrix(kernel)
    saved = (count - 1) * (size + (NODE_BYTES + INITIALIZER_BYTES if has_bias else 0))
    return saved - (SPLIT_BYTES if is_split else 0)


def repair_addition_parts() -> Parts:
    """What a repair has beside the factors and the intercept, which a site has too: it is added to the stream."""
    return Parts(matrix_nodes=0, other_nodes=1, attention_nodes=0, bindings=0, graph_bytes=NODE_BYTES)


def table_parts(kernel: str) -> Parts:
    """Embedding look-up and head; a tied table has two initializers on the same bytes."""
    nodes, initializers, size = _matrix(kernel)
    lookup = 2 if parse_kernel(kernel).kind == "matmul_nbits" else 1
    return Parts(
        matrix_nodes=nodes,
        other_nodes=lookup,
        attention_nodes=0,
        bindings=0,
        graph_bytes=size + lookup * NODE_BYTES + initializers * INITIALIZER_BYTES,
    )


def fixed_parts(spec: ModelSpec) -> Parts:
    """What every graph has once: final norm, position tables, and lengths from the attention mask."""
    norm_tensors = 1 if spec.norm_kind == "rms" else 2
    tables = 2 if spec.position_kind == "rotary" else 1
    nodes = 8 if spec.position_kind == "rotary" else 10
    return Parts(
        matrix_nodes=0,
        other_nodes=nodes,
        attention_nodes=0,
        bindings=0,
        graph_bytes=GRAPH_BYTES + nodes * NODE_BYTES + (norm_tensors + tables + 3) * INITIALIZER_BYTES,
    )
