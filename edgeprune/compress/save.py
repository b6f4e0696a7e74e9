"""`save_hf`: a compressed model in Hugging Face layout.

Writes model.safetensors, config.json, generation_config.json, the tokenizer files and README.md, the whole folder or
nothing. Tensors carry the names of the module tree; a factored site is `<path>.right.weight` [rank, in] and
`<path>.left.weight` [out, rank], one in the pivot form has `left` [out - rank, rank] and `<path>.order` [out] int32
besides, and every site is stored [out, in], GPT-2's too. A tensor is stored in the smallest of the source's dtype,
float16 and float32 that holds every value exactly, so loading gives back the same bits.

config.json is the model's configuration plus an `edgeprune` block:

    format_version   1
    linear_layout    out_in
    spec             `ModelSpec` of the edited model: widths, ranks and kernels of every block
    recipe           `Recipe` that made it
"""

import functools
import json
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from edgeprune.artifacts import atomic_folder
from edgeprune.compress.card import model_card
from edgeprune.compress.factored import FactoredLinear
from edgeprune.compress.passes import check_shapes
from edgeprune.compress.pivoted import PivotedLinear
from edgeprune.compress.tokenizer_files import tokenizer_files
from edgeprune.errors import DeviceError
from edgeprune.intake.load import LoadedModel
from edgeprune.intake.stored.weight import StoredWeight, read_rows
from edgeprune.intake.stored.write import Pending, write_tensors
from edgeprune.schema.recipe import Recipe

__all__ = ["CONFIG_KEY", "FORMAT_VERSION", "WEIGHTS_FILE", "parameter_names", "row_orders", "save_hf"]

CONFIG_KEY = "edgeprune"
FORMAT_VERSION = 1
WEIGHTS_FILE = "model.safetensors"


def save_hf(loaded: LoadedModel, recipe: Recipe, folder: Path) -> None:
    """Write the model; an existing folder is replaced once the new one is complete.

    Args:
        loaded: a compressed model.
        recipe: what made it from the dense one.
        folder: where to.

    Raises:
        ModelError: the model does not have the shapes of its spec.
        DeviceError: the disk is full.
        UsageError: the folder cannot be written.
    """
    check_shapes(loaded, where="before saving")
    source_dtype = getattr(torch, loaded.spec.source_dtype)
    tensors = {
        name: _pending(parameter.detach(), source_dtype) for name, parameter in parameter_names(loaded.model).items()
    }
    for name, module in row_orders(loaded.model).items():
        order = module.order
        assert order is not None, name
        tensors[name] = Pending(torch.int32, tuple(order.shape), functools.partial(order.to, torch.int32))
    files = {
        "config.json": _json(_config(loaded, recipe)),
        "generation_config.json": _json(_generation_config(loaded)),
        "README.md": model_card(loaded.spec, recipe).encode(),
        **tokenizer_files(loaded, is_trimmed=recipe.keep_tokens is not None),
    }
    with atomic_folder(folder) as partial:
        try:
            write_tensors(partial / WEIGHTS_FILE, tensors, metadata={"format": "pt"})
        except OSError as error:
            raise DeviceError(f"{folder / WEIGHTS_FILE} cannot be written ({error}); free space and run again.") from (
                error
            )
        (partial / WEIGHTS_FILE).chmod(0o644)
        for name, data in files.items():
            (partial / name).write_bytes(data)


def parameter_names(model: nn.Module) -> dict[str, nn.Parameter]:
    """Stored name -> parameter, a tied one once; factors end in `.weight` as every matrix does."""
    factors = {
        f"{path}.{factor}"
        for path, module in model.named_modules()
        if isinstance(module, FactoredLinear)
        for factor in ("right", "left")
    }
    return {f"{name}.weight" if name in factors else name: value for name, value in model.named_parameters()}


def row_orders(model: nn.Module) -> dict[str, PivotedLinear]:
    """Stored name of a row order -> the layer in the pivot form it belongs to; no parameters, and stored as int32."""
    return {
        f"{path}.order": module
        for path, module in model.named_modules()
        if isinstance(module, PivotedLinear) and module.order is not None
    }


def _pending(tensor: Tensor, source_dtype: torch.dtype) -> Pending:
    """The tensor in the smallest dtype that loses nothing, made when it is written."""
    dtype = _smallest_dtype(tensor, source_dtype)
    return Pending(dtype, tuple(tensor.shape), lambda: tensor.to(dtype))


def _smallest_dtype(tensor: Tensor, source_dtype: torch.dtype) -> torch.dtype:
    values = read_rows(tensor, slice(None)) if isinstance(tensor, StoredWeight) else tensor
    for dtype in (source_dtype, torch.float16):
        if torch.equal(values.to(dtype).to(torch.float32), values):
            return dtype
    return torch.float32


def _config(loaded: LoadedModel, recipe: Recipe) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(loaded.model.config.to_json_string(use_diff=False))
    # A type-wide dtype no longer exists; loading goes by each tensor's own.
    config["dtype"] = "float32"
    config.pop("per_layer_config", None)
    config[CONFIG_KEY] = {
        "format_version": FORMAT_VERSION,
        "linear_layout": "out_in",
        "spec": msgspec.to_builtins(loaded.spec),
        "recipe": msgspec.to_builtins(recipe),
    }
    return config


def _generation_config(loaded: LoadedModel) -> dict[str, Any]:
    config = loaded.model.generation_config
    return {} if config is None else json.loads(config.to_json_string(use_diff=True))


def _json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
