"""`load`: a compressed model back from its folder, bit for bit; plain Hugging Face folders too.

Takes a folder written by `save_hf`; builds the architecture from config.json, puts factored and narrowed modules where
the `edgeprune` block says, and fills every parameter from model.safetensors, none missing and none left over.
"""

from math import prod
from pathlib import Path
from typing import Any

import msgspec
import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel
from transformers.initialization import no_init_weights
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from edgeprune.compress.factored import FactoredLinear, SharedLinear
from edgeprune.compress.head_linear import HeadColumns, HeadRows
from edgeprune.compress.passes import check_finite, check_shapes, linear
from edgeprune.compress.pivoted import PivotedLinear
from edgeprune.compress.save import CONFIG_KEY, FORMAT_VERSION, WEIGHTS_FILE, parameter_names, row_orders
from edgeprune.compress.share import share_right_factors
from edgeprune.errors import DeviceError, ModelError
from edgeprune.intake.adapters.base import Adapter
from edgeprune.intake.adapters.registry import adapter_for
from edgeprune.intake.adapters.repair import set_repair
from edgeprune.intake.config import BLOCK_LIMIT, read_json
from edgeprune.intake.load import LoadedModel, load_model, load_tokenizer
from edgeprune.schema.base import SCHEMA_VERSION
from edgeprune.schema.model import BlockSpec, ModelSpec, SiteSpec
from edgeprune.schema.recipe import Recipe

__all__ = ["load", "load_recipe"]


def load(folder: str | Path) -> LoadedModel:
    """Load a compressed model, or a plain one.

    Raises:
        ModelError: missing, damaged, written by a newer version, or tensors that do not match the configuration.
        UnsupportedArchitectureError: no family reads it.
        DeviceError: not enough memory.
    """
    folder = Path(folder)
    config = read_json(folder / "config.json")
    if CONFIG_KEY not in config:
        return load_model(folder)
    spec, _ = _edits(folder, config.pop(CONFIG_KEY))
    shapes = _stored_shapes(folder / WEIGHTS_FILE)
    # Compared before anything is built: a malformed configuration must not allocate what it claims.
    stored_count = sum(prod(shape) for name, shape in shapes.items() if not name.endswith(".order"))
    if stored_count != spec.parameter_count or not 1 <= len(spec.blocks) <= BLOCK_LIMIT:
        raise ModelError(
            f"{folder / WEIGHTS_FILE} holds {stored_count} parameters, config.json describes {spec.parameter_count}; "
            "the folder is damaged, compress the model again."
        )
    adapter = adapter_for(spec.family)
    model = _build(folder, config, spec, adapter)
    _fill(model, folder / WEIGHTS_FILE, shapes)
    loaded = LoadedModel(model=model, spec=spec, adapter=adapter, folder=folder, tokenizer=load_tokenizer(folder))
    check_shapes(loaded, where=f"in {folder}")
    return loaded


def load_recipe(folder: Path) -> Recipe | None:
    """The recipe a folder was made with; None for a plain Hugging Face folder.

    Raises:
        ModelError: the configuration is damaged or was written by a newer version.
    """
    block = read_json(folder / "config.json").get(CONFIG_KEY)
    return None if block is None else _edits(folder, block)[1]


def _edits(folder: Path, block: Any) -> tuple[ModelSpec, Recipe]:
    path = folder / "config.json"
    if not isinstance(block, dict) or not isinstance(block.get("format_version"), int):
        raise ModelError(f"{path} has a malformed {CONFIG_KEY} block; compress the model again.")
    if block["format_version"] > FORMAT_VERSION:
        raise ModelError(
            f"{path} has {CONFIG_KEY} format version {block['format_version']}, this EdgePrune reads up to "
            f"{FORMAT_VERSION}; use the EdgePrune that wrote it."
        )
    try:
        spec = msgspec.convert(block.get("spec"), ModelSpec)
        recipe = msgspec.convert(block.get("recipe"), Recipe)
    except msgspec.ValidationError as error:
        raise ModelError(f"{path} has a malformed {CONFIG_KEY} block ({error}); compress the model again.") from error
    if max(spec.schema_version, recipe.schema_version) > SCHEMA_VERSION:
        raise ModelError(f"{path} was written by a newer EdgePrune; use that one.")
    return spec, recipe


def _stored_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    if not path.is_file():
        raise ModelError(f"{path} is missing; compress the model again.")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is damaged ({error}); compress the model again.") from error


def _build(folder: Path, config: dict[str, Any], spec: ModelSpec, adapter: Adapter) -> PreTrainedModel:
    """The module tree with every site in its edited form, parameters without values."""
    try:
        typed = CONFIG_MAPPING[spec.model_type].from_dict(config)
        claimed = (typed.num_hidden_layers, typed.vocab_size, typed.hidden_size, typed.tie_word_embeddings)
        described = (len(spec.blocks), spec.vocab_size, spec.hidden_size, spec.is_tied)
        if claimed != described:
            raise ModelError(
                f"{folder / 'config.json'} contradicts itself: blocks, vocabulary, width and tying are {claimed}, its "
                f"{CONFIG_KEY} block says {described}; compress the model again."
            )
        with no_init_weights():
            model = AutoModelForCausalLM.from_config(typed, dtype=torch.float32, attn_implementation="eager")
    except MemoryError as error:
        raise DeviceError(f"Out of memory while loading {folder}; free memory or take a smaller model.") from error
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError, StrictDataclassError) as error:
        raise ModelError(f"{folder / 'config.json'} describes no model that can be built ({error}).") from error
    assert isinstance(model, PreTrainedModel)
    if spec.is_tied:
        # Building without initialisation leaves out tying too.
        adapter.head(model).weight = adapter.embedding(model).weight
    adapter.prepare(model)
    for position, (block, described_block) in enumerate(zip(adapter.blocks(model), spec.blocks, strict=True)):
        if not described_block.has_attention:
            adapter.drop_attention(model, position)
        if not described_block.has_mlp:
            adapter.drop_mlp(model, position)
        for site in described_block.sites:
            adapter.set_site(block, site.role, _empty(site, described_block))
        share_right_factors(adapter, block, described_block.sites, has_values=False)
        if described_block.has_attention:
            adapter.set_head_count(block, described_block.num_heads)
        if described_block.repair_rank is not None:
            rank, width = described_block.repair_rank, spec.hidden_size
            set_repair(block, FactoredLinear.empty(in_features=width, rank=rank, out_features=width, has_bias=True))
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_dict(read_json(folder / "generation_config.json"))
    return model.eval()


def _empty(site: SiteSpec, block: BlockSpec) -> torch.nn.Module:
    bias = torch.empty(site.out_features) if site.has_bias else None
    if site.rank is not None:
        if site.form == "head_rows":
            right = torch.empty(site.rank, site.in_features)
            return HeadRows(right, block.num_kv_heads, site.out_features, bias)
        if site.form == "head_columns":
            return HeadColumns(torch.empty(site.out_features, site.rank), block.num_heads, site.in_features, bias)
        if site.form == "pivot":
            return PivotedLinear.empty(
                in_features=site.in_features,
                rank=site.rank,
                out_features=site.out_features,
                has_bias=site.has_bias,
                has_order=site.has_row_order,
            )
        layer = SharedLinear if site.form == "shared" else FactoredLinear
        return layer.empty(
            in_features=site.in_features, rank=site.rank, out_features=site.out_features, has_bias=site.has_bias
        )
    return linear(torch.empty(site.out_features, site.in_features), bias)


def _row_order(stored: torch.Tensor, out_features: int, *, what: str) -> torch.Tensor:
    order = stored.to(torch.int64)
    if stored.dtype != torch.int32 or not torch.equal(order.sort().values, torch.arange(out_features)):
        raise ModelError(f"The tensor {what} is no order of {out_features} rows; compress the model again.")
    return order


def _fill(model: PreTrainedModel, path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    parameters, orders = parameter_names(model), row_orders(model)
    known = {*parameters, *orders}
    missing, unexpected = sorted(known - set(shapes)), sorted(set(shapes) - known)
    if missing or unexpected:
        what = f"lacks the tensor {missing[0]!r} that" if missing else f"holds the tensor {unexpected[0]!r} that"
        verb = "describes" if missing else "does not describe"
        raise ModelError(f"{path} {what} config.json {verb}; the folder is damaged, compress the model again.")
    try:
        with safe_open(path, framework="pt") as file:
            for name, parameter in parameters.items():
                if shapes[name] != tuple(parameter.shape):
                    raise ModelError(
                        f"The tensor {name!r} in {path} has the shape {list(shapes[name])}, config.json describes "
                        f"{list(parameter.shape)}; compress the model again."
                    )
                parameter.data = file.get_tensor(name).to(torch.float32)
                check_finite(f"The tensor {name!r} in {path}", parameter.data)
            for name, module in orders.items():
                module.order = _row_order(file.get_tensor(name), module.out_features, what=f"{name!r} in {path}")
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is damaged ({error}); compress the model again.") from error
