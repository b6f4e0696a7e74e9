"""The ONNX graph of an edited model, built by mobius from its own module tree: the one file that imports mobius.

mobius 0.1.0 knows each family's wiring (norms, residuals, rotary embedding, grouped heads) and the fusions of
onnxruntime's CPU provider. Its tree is edited before the graph is built: every linear site becomes a `Site` of ours
with its own kernel, rank and width, blocks that were dropped are not in the configuration, tables become ours, and
rotary or position tables are cut to the context. Weights are not given to mobius: `Graph.arrays` streams them to the
file writer one matrix at a time. Torch eager is the oracle (`edgeprune.export.parity`).
"""

import contextlib
import dataclasses
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import mobius
import onnx_ir as ir
import torch
from onnxscript import nn

from edgeprune.errors import ExportError
from edgeprune.export.attention import FusedAttention, pack_split_attention
from edgeprune.export.cleanup import clean_graph, name_parts
from edgeprune.export.decoder import Norm, WiredBlock, WiredDecoder, takes_packed
from edgeprune.export.matrices import Site, StoredArray, to_array
from edgeprune.export.packed import JoinedFactors, PackedSites, Stored, pack_block
from edgeprune.export.part_layers import add_repair, remove_attention, remove_mlp
from edgeprune.export.tables import EmbeddingTable, HeadTable
from edgeprune.intake.adapters.repair import repair_of
from edgeprune.intake.adapters.wired import WiredAdapter
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.kernel import FLOAT32
from edgeprune.schema.model import BlockSpec, SiteRole

__all__ = ["Graph", "build_graph"]


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A graph without weights, and where the weights come from."""

    model: ir.Model
    """Every initializer that `arrays` names has a shape and a type, but no value yet."""
    sites: tuple[Stored, ...]
    embedding: EmbeddingTable
    head: HeadTable
    is_tied: bool
    plain: tuple[tuple[ir.Value, torch.Tensor], ...]
    """Norms and position tables: initializers and the tensors they take as they are."""

    def arrays(self) -> Iterator[StoredArray]:
        """All weights in the order in which they are stored: tables, norms, sites block by block."""
        yield from self.embedding.arrays(tied=self.head if self.is_tied else None)
        if not self.is_tied:
            yield from self.head.arrays()
        for value, tensor in self.plain:
            yield to_array(tensor), (value,)
        for site in self.sites:
            yield from site.arrays()


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """Where a family's parts are in mobius's module tree; `sites` maps our roles to attributes of a block."""

    backbone: str
    blocks: str
    embedding: str
    sites: dict[SiteRole, tuple[str, str]]
    parts: dict[str, str]
    """Attributes of a block: `attention`, `norm` before it, `mlp`, `mlp_norm` before that."""


_MLP: dict[SiteRole, tuple[str, str]] = {
    "gate": ("mlp", "gate_proj"),
    "up": ("mlp", "up_proj"),
    "down": ("mlp", "down_proj"),
}
_ATTENTION: dict[SiteRole, tuple[str, str]] = {
    "q": ("self_attn", "q_proj"),
    "k": ("self_attn", "k_proj"),
    "v": ("self_attn", "v_proj"),
    "o": ("self_attn", "o_proj"),
}
_LLAMA = _Layout(
    backbone="model",
    blocks="layers",
    embedding="embed_tokens",
    sites=_ATTENTION | _MLP,
    parts={"attention": "self_attn", "norm": "input_layernorm", "mlp": "mlp", "mlp_norm": "post_attention_layernorm"},
)
_GPT2 = _Layout(
    backbone="transformer",
    blocks="h",
    embedding="wte",
    sites={"up": _MLP["up"], "down": _MLP["down"]},
    parts={"attention": "attn", "norm": "ln_1", "mlp": "mlp", "mlp_norm": "ln_2"},
)
_LAYOUTS = {"llama": _LLAMA, "mistral": _LLAMA, "qwen2": _LLAMA, "qwen3": _LLAMA, "gpt2": _GPT2}


def build_graph(loaded: LoadedModel, *, context_tokens: int, last_logits: bool = False) -> Graph:
    """Build the graph of an edited model.

    Args:
        loaded: the model as compression left it, float32; its spec says kernels and ranks.
        context_tokens: rows of rotary and position tables.
        last_logits: give the logits after the last token of a prompt alone, [batch, 1, vocab]: the head is then no
            part of a prompt's time, and scoring a text takes a run a token.

    Raises:
        ExportError: the family has no layout here, mobius refuses the model, or a weight finds no place.
    """
    spec = loaded.spec
    if isinstance(loaded.adapter, WiredAdapter):
        return _build_wired(loaded, loaded.adapter, context_tokens, last_logits)
    layout = _LAYOUTS.get(spec.model_type)
    if layout is None:
        raise ExportError(
            f"There is no graph layout for model type {spec.model_type!r}; known are {', '.join(sorted(_LAYOUTS))}. "
            "Add one in edgeprune/export/graph.py."
        )
    config = _mobius_config(loaded, context_tokens)
    module = mobius.registry.get(spec.model_type)(config)
    sites, embedding, head = _edit_tree(module, loaded, layout, context_tokens, last_logits)
    model = _build(module, config, spec.name)
    pack_split_attention(model.graph)
    clean_graph(model, spec, last_logits=last_logits)
    plain = tuple(_plain_weights(model.graph, loaded, module, context_tokens))
    name_parts(model.graph, dict(_weight_names(loaded, sites, embedding, head, plain)))
    return Graph(model=model, sites=tuple(sites), embedding=embedding, head=head, is_tied=spec.is_tied, plain=plain)


def _build_wired(loaded: LoadedModel, adapter: WiredAdapter, context_tokens: int, last_logits: bool) -> Graph:
    """The graph of a family that is wired by its adapter's facts."""
    spec = loaded.spec
    wiring = adapter.wiring(loaded.model, context_tokens=context_tokens)
    blocks: list[WiredBlock] = []
    sites: list[Stored] = []
    for facts, block, source in zip(wiring.blocks, spec.blocks, adapter.blocks(loaded.model), strict=True):
        made = {site.role: Site(adapter.site(source, site.role), site.kernel, name=site.name) for site in block.sites}
        operator = repair_of(source)
        repair = None if operator is None else Site(operator, FLOAT32, name=f"blocks.{block.index}.repair")
        is_plain = takes_packed(facts, block, wiring.rotary)
        packed = pack_block(made, block_index=block.index, packs_attention=is_plain)
        sites += [*packed.stored, *([] if repair is None else [repair])]
        blocks.append(
            WiredBlock(
                facts,
                block,
                packed,
                repair=repair,
                activation=wiring.activation,
                context_tokens=context_tokens,
            )
        )
    embedding = EmbeddingTable(adapter.embedding(loaded.model).weight, spec.table_kernel)
    head = HeadTable(adapter.head(loaded.model).weight, spec.table_kernel, last_only=last_logits)
    module = WiredDecoder(wiring, blocks, embedding, head)
    first = spec.attention_blocks[0]
    config = mobius.CausalLMConfig(
        vocab_size=spec.vocab_size,
        hidden_size=spec.hidden_size,
        intermediate_size=None,  # every block has its own, which its sites tell
        num_hidden_layers=len(spec.blocks),
        num_attention_heads=first.num_heads,
        num_key_value_heads=first.num_kv_heads,
        head_dim=first.head_dim,
        dtype=ir.DataType.FLOAT,
    )
    model = _build(module, config, spec.name)
    clean_graph(model, spec, last_logits=last_logits)
    plain = tuple(_wired_weights(module))
    names = dict(_weight_names(loaded, sites, embedding, head, ()))
    for position, block in enumerate(spec.blocks):
        stem = f"layers.{position}."
        names |= {
            value.name: f"blocks.{block.index}.{value.name.removeprefix(stem)}"
            for value, _ in plain
            if value.name is not None and value.name.startswith(stem)
        }
    name_parts(model.graph, names)
    return Graph(model=model, sites=tuple(sites), embedding=embedding, head=head, is_tied=spec.is_tied, plain=plain)


def _wired_weights(module: WiredDecoder) -> Iterator[tuple[ir.Value, torch.Tensor]]:
    """Norms and learned positions of a decoder of ours, and their tensors."""
    for part in module.modules():
        if isinstance(part, Norm):
            yield part.weight, part.wiring.gain
            if part.bias is not None:
                assert part.wiring.bias is not None
                yield part.bias, part.wiring.bias
    if module.positions is not None:
        assert module.wiring.positions is not None
        yield module.positions, module.wiring.positions


def _build(module: nn.Module, config: Any, name: str) -> ir.Model:
    try:
        with _quiet_shape_inference():
            return mobius.build_from_module(module, config, execution_provider="cpu")["model"]
    except Exception as error:  # mobius raises whatever its operators and rewrite rules raise
        raise ExportError(f"mobius could not build the graph of {name}: {error}") from error


@contextlib.contextmanager
def _quiet_shape_inference() -> Iterator[None]:
    """It warns of every operator it has no rule for (GatherBlockQuantized); the runtime infers those shapes itself."""
    logger = logging.getLogger("onnx_shape_inference")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _mobius_config(loaded: LoadedModel, context_tokens: int) -> Any:
    spec = loaded.spec
    config_class = mobius.registry.get_config_class(spec.model_type) or mobius.CausalLMConfig
    config = config_class.from_transformers(loaded.model.config)
    window = spec.sliding_window
    return dataclasses.replace(
        config,
        vocab_size=spec.vocab_size,
        num_hidden_layers=len(spec.blocks),
        tie_word_embeddings=False,  # the tables are ours, see edgeprune.export.tables
        # A window that no bundle of this context can fill is left out: the kernel is then the plain causal one.
        sliding_window=window if window is not None and window < context_tokens else None,
        layer_types=None,
        dtype=ir.DataType.FLOAT,
    )


def _edit_tree(
    module: nn.Module, loaded: LoadedModel, layout: _Layout, context_tokens: int, last_logits: bool
) -> tuple[list[Stored], EmbeddingTable, HeadTable]:
    spec, adapter = loaded.spec, loaded.adapter
    backbone = getattr(module, layout.backbone)
    sites: list[Stored] = []
    blocks = zip(getattr(backbone, layout.blocks), spec.blocks, adapter.blocks(loaded.model), strict=True)
    for target, block, source in blocks:
        made = {site.role: Site(adapter.site(source, site.role), site.kernel, name=site.name) for site in block.sites}
        # A norm of its own on queries and keys stands between the product and attention.
        is_normed = getattr(getattr(target, "self_attn", None), "q_norm", None) is not None
        packed = pack_block(made, block_index=block.index, packs_attention=not is_normed)
        sites += packed.stored
        modules = packed.modules
        if "qkv" in made:
            target.attn = FusedAttention(made["qkv"], made["o"], num_heads=block.num_heads, head_dim=block.head_dim)
        for role, (parent, name) in layout.sites.items():
            if role in modules:
                setattr(getattr(target, parent), name, modules[role])
        if not block.has_attention:
            remove_attention(target, **layout.parts)
        elif not block.has_mlp:
            remove_mlp(target, **layout.parts)
        operator = repair_of(source)
        if operator is not None:
            repair = Site(operator, FLOAT32, name=f"blocks.{block.index}.repair")
            sites.append(repair)
            add_repair(target, repair)
        _set_heads(target, block)
    embedding = EmbeddingTable(adapter.embedding(loaded.model).weight, spec.table_kernel)
    head = HeadTable(adapter.head(loaded.model).weight, spec.table_kernel, last_only=last_logits)
    setattr(backbone, layout.embedding, embedding)
    module.lm_head = head
    if spec.position_kind == "rotary":
        for name in ("cos_cache", "sin_cache"):
            table = getattr(backbone.rotary_emb, name).const_value.numpy()[:context_tokens]
            setattr(backbone.rotary_emb, name, nn.Parameter(list(table.shape), name=name, data=ir.tensor(table)))
    else:
        backbone.wpe.weight = nn.Parameter([context_tokens, spec.hidden_size], name="weight")
    return sites, embedding, head


def _set_heads(target: nn.Module, block: BlockSpec) -> None:
    attention = getattr(target, "self_attn", None)
    if attention is not None:
        attention.num_attention_heads = block.num_heads
        attention.num_key_value_heads = block.num_kv_heads


def _weight_names(
    loaded: LoadedModel,
    sites: list[Stored],
    embedding: EmbeddingTable,
    head: HeadTable,
    plain: tuple[tuple[ir.Value, torch.Tensor], ...],
) -> Iterator[tuple[str, str]]:
    """Initializer names as mobius made them, and ours."""
    # Joined factors come after the sites that call them, and have the last word on their names.
    for site in sites:
        for path, parameter in site.named_parameters():
            yield parameter.name, f"{site.site_name}.{path if site.right is not None else path.removeprefix('left.')}"
    for stem, table in (("embedding", embedding), ("head", head)):
        for path, parameter in table.named_parameters():
            yield parameter.name, f"{stem}.{path}"
    # The blocks that are left count from 0 in mobius's tree; ours keep the numbers of the dense model.
    for position, block in enumerate(loaded.spec.blocks):
        prefix = f"{loaded.adapter.block_path(position)}."
        for value, _ in plain:
            if value.name.startswith(prefix):
                yield value.name, f"blocks.{block.index}.{value.name.removeprefix(prefix)}"


def _plain_weights(
    graph: ir.Graph, loaded: LoadedModel, module: nn.Module, context_tokens: int
) -> Iterator[tuple[ir.Value, torch.Tensor]]:
    """Initializers that keep the tensor of the same name: norms, and GPT-2's position table."""
    ours = {
        id(parameter)
        for part in module.modules()
        if isinstance(part, (Site, PackedSites, JoinedFactors, EmbeddingTable, HeadTable))
        for parameter in part.parameters()
    }
    tensors = loaded.model.state_dict()
    for name, value in graph.initializers.items():
        if value.const_value is not None or id(value) in ours:
            continue
        tensor = tensors.get(name)
        if tensor is None:
            raise ExportError(f"The graph of {loaded.spec.name} wants a weight {name!r} that the model does not have.")
        if name.endswith("wpe.weight"):
            tensor = tensor[:context_tokens]
        if value.shape is None or tuple(value.shape.numpy()) != tuple(tensor.shape):
            raise ExportError(f"The weight {name!r} has shape {tuple(tensor.shape)}, the graph wants {value.shape}.")
        yield value, tensor
