"""`load_mapped`: the torch model of a folder with its matrices left in their files, for models larger than memory.

The same model as `load_model` gives, to the bit: the module tree is built without values, vectors are read, and every
matrix becomes a tensor on the pages of the safetensors files (`mapped`). What compression puts in their place is kept
in files too (`store`). Held in memory: norms and biases.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from edgeprune.errors import ModelError
from edgeprune.intake.adapters.registry import adapter_for
from edgeprune.intake.config import read_json
from edgeprune.intake.crosscheck import check_against_optimum
from edgeprune.intake.headers import find_weights
from edgeprune.intake.load import (
    LoadedModel,
    check_finite,
    check_sites,
    check_vocabulary,
    load_tokenizer,
    quiet_transformers,
)
from edgeprune.intake.spec import read_spec
from edgeprune.intake.stored.mapped import MappedFile, mapped_tensor
from edgeprune.intake.stored.store import WeightStore, keep_sites
from edgeprune.intake.stored.weight import keep_views_stored

__all__ = ["load_mapped"]


def load_mapped(folder: Path, store: WeightStore) -> LoadedModel:
    """Open the model and load the tokenizer of a folder.

    Args:
        folder: a Hugging Face folder with safetensors.
        store: where what is put into the model later is kept.

    Raises:
        ModelError: as `load_model`; or tensors that are named otherwise than transformers' modules.
        UnsupportedArchitectureError: no family reads it.
    """
    spec = read_spec(folder)
    adapter = adapter_for(spec.family)
    tokenizer = load_tokenizer(folder)
    check_vocabulary(folder, spec, tokenizer)
    model = _without_values(folder)
    if spec.is_tied:
        adapter.head(model).weight = adapter.embedding(model).weight
    _fill(model, folder)
    check_against_optimum(model, spec)
    keep_sites(model, adapter.blocks(model), store)
    with keep_views_stored():
        adapter.prepare(model)
    check_sites(model, spec, adapter)
    check_finite(model)
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_dict(read_json(folder / "generation_config.json"))
    model.eval()
    return LoadedModel(model=model, spec=spec, adapter=adapter, folder=folder, tokenizer=tokenizer)


def _without_values(folder: Path) -> PreTrainedModel:
    """The module tree with parameters on the meta device and buffers as they are made."""
    try:
        with quiet_transformers(), no_init_weights(), _parameters_on_meta():
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager")
    except (OSError, ValueError, RuntimeError, TypeError, KeyError, AttributeError, StrictDataclassError) as error:
        reason = str(error).strip().splitlines()
        raise ModelError(
            f"transformers cannot build {folder} ({reason[0] if reason else type(error).__name__}); download it again."
        ) from error
    assert isinstance(model, PreTrainedModel)
    return model


def _fill(model: PreTrainedModel, folder: Path) -> None:
    """Put the tensors of the files into the modules of the same names."""
    files = find_weights(folder)
    mapped = {path: MappedFile.open(path) for path in files.paths}
    prefix = f"{model.base_model_prefix}."
    parameters: dict[int, nn.Parameter] = {}
    for path, module in model.named_modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is None:
                continue
            if id(parameter) not in parameters:
                full = f"{path}.{name}" if path else name
                # Some folders hold the backbone alone, whose tensors lack its prefix.
                header = files.tensors.get(full) or files.tensors.get(full.removeprefix(prefix))
                if header is None or header.shape != tuple(parameter.shape):
                    raise ModelError(
                        f"{folder} has no tensor {full!r} of shape {list(parameter.shape)}, so its weights cannot be "
                        "left in their files; save the model once with transformers, or run without "
                        "--max-host-memory."
                    )
                tensor = mapped_tensor(mapped[header.path], header)
                # By identity: a tied table is one tensor.
                parameters[id(parameter)] = nn.Parameter(tensor, requires_grad=False)
            module._parameters[name] = parameters[id(parameter)]


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """Parameters take no memory while the block runs; buffers, which are computed and not stored, are made as usual."""
    register = nn.Module.register_parameter

    def on_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        register(module, name, parameter)
        if parameter is not None:
            module._parameters[name] = nn.Parameter(parameter.detach().to("meta"), requires_grad=False)

    nn.Module.register_parameter = on_meta  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]
