"""`load_model`: the torch model of a folder, in float32 and eval mode, checked against its spec.

Takes a folder that `read_spec` accepts; gives a `LoadedModel` whose every parameter is finite, whose sites are
`nn.Linear` with W [out, in], and whose sizes transformers, optimum and our own reader agree on.
"""

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, PreTrainedModel

from edgeprune.artifacts import check_tokenizer_size
from edgeprune.errors import DeviceError, ModelError
from edgeprune.intake.adapters.base import Adapter
from edgeprune.intake.adapters.registry import adapter_for
from edgeprune.intake.crosscheck import check_against_optimum
from edgeprune.intake.spec import read_spec
from edgeprune.schema.model import ModelSpec

__all__ = [
    "LoadedModel",
    "check_finite",
    "check_sites",
    "check_vocabulary",
    "load_model",
    "load_tokenizer",
    "quiet_transformers",
]


@dataclass(kw_only=True)
class LoadedModel:
    """A torch model with all that describes it; edited models are LoadedModels too."""

    model: PreTrainedModel
    """float32, eval mode, eager attention."""
    spec: ModelSpec
    """Shapes of this model, edits included."""
    adapter: Adapter
    folder: Path
    """Where the dense model came from."""
    tokenizer: Tokenizer
    """From tokenizer.json."""

    @property
    def block_indices(self) -> list[int]:
        """Position in the module list -> index in the dense model."""
        return [block.index for block in self.spec.blocks]


def load_model(folder: Path) -> LoadedModel:
    """Load the model and the tokenizer of a folder.

    Raises:
        ModelError: missing, malformed or truncated files, weights that are not finite, or readers that disagree.
        UnsupportedArchitectureError: no family reads it.
        DeviceError: not enough memory.
    """
    spec = read_spec(folder)
    adapter = adapter_for(spec.family)
    tokenizer = load_tokenizer(folder)
    check_vocabulary(folder, spec, tokenizer)
    model = _load_weights(folder)
    check_against_optimum(model, spec)
    adapter.prepare(model)
    check_sites(model, spec, adapter)
    check_finite(model)
    model.eval()
    return LoadedModel(model=model, spec=spec, adapter=adapter, folder=folder, tokenizer=tokenizer)


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a folder, as the `tokenizers` package holds it.

    Raises:
        ModelError: no tokenizer.json, or one that cannot be read.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ModelError(
            f"{folder} has no tokenizer.json; save the tokenizer once with transformers "
            "(AutoTokenizer.from_pretrained(...).save_pretrained(...)) and run again."
        )
    check_tokenizer_size(path)
    try:
        tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # the package raises plain Exception for anything malformed
        raise ModelError(f"{path} is not a valid tokenizer ({error}); download the model again.") from error
    # Stored padding or truncation would silently change token counts.
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def check_vocabulary(folder: Path, spec: ModelSpec, tokenizer: Tokenizer) -> None:
    """The model has a row for every token.

    Raises:
        ModelError: it has not.
    """
    highest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    if highest >= spec.vocab_size:
        raise ModelError(
            f"The tokenizer of {folder} has the token id {highest}, the model only {spec.vocab_size} tokens; the two "
            "belong to different models."
        )


def check_finite(model: PreTrainedModel) -> None:
    """Every parameter holds finite numbers only, tensor by tensor without a copy.

    Raises:
        ModelError: NaN or Inf; the message names the tensor.
    """
    for name, parameter in model.named_parameters():
        if parameter.numel() == 0:
            continue
        low, high = torch.aminmax(parameter.detach())  # both NaN when one value is
        if not (torch.isfinite(low) and torch.isfinite(high)):
            what = "NaN" if torch.isnan(low) else "Inf"
            raise ModelError(f"The tensor {name!r} holds {what}; the weights are damaged, download the model again.")


def _load_weights(folder: Path) -> PreTrainedModel:
    try:
        with quiet_transformers():
            model, info = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                attn_implementation="eager",
                output_loading_info=True,
            )
    except MemoryError as error:
        raise DeviceError(f"Out of memory while loading {folder}; free memory or take a smaller model.") from error
    except (
        OSError, ValueError, RuntimeError, TypeError, KeyError, AttributeError, SafetensorError, StrictDataclassError,
    ) as error:  # fmt: skip
        if "allocate memory" in str(error):
            raise DeviceError(f"Out of memory while loading {folder}; free memory or take a smaller model.") from error
        reason = str(error).strip().splitlines()
        raise ModelError(
            f"transformers cannot load {folder} ({reason[0] if reason else type(error).__name__}); download it again."
        ) from error
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        if info.get(what):
            names = ", ".join(sorted(map(str, info[what]))[:3])
            raise ModelError(
                f"transformers reports {what.replace('_', ' ')} for {folder}: {names}; the weights belong to another "
                "model or were changed, download it again."
            )
    assert isinstance(model, PreTrainedModel)
    return model


def check_sites(model: PreTrainedModel, spec: ModelSpec, adapter: Adapter) -> None:
    """The modules the adapter finds have the shapes of the spec.

    Raises:
        ModelError: they have not.
    """
    blocks = adapter.blocks(model)
    if len(blocks) != len(spec.blocks):
        raise ModelError(f"The loaded model has {len(blocks)} blocks, its files describe {len(spec.blocks)}.")
    for block, described in zip(blocks, spec.blocks, strict=True):
        for site in described.sites:
            module = adapter.site(block, site.role)
            assert isinstance(module, torch.nn.Linear), site.name
            found = (module.out_features, module.in_features, module.bias is not None)
            if found != (site.out_features, site.in_features, site.has_bias):
                raise ModelError(
                    f"The loaded site {site.name} has the shape {found[:2]}, its files describe "
                    f"{(site.out_features, site.in_features)}."
                )
    if adapter.is_tied(model) != spec.is_tied:
        raise ModelError(
            f"config.json says tie_word_embeddings {spec.is_tied}, the loaded model says otherwise; download it again."
        )


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bar, report or warning on stderr: only the front doors write there."""
    from transformers.utils import logging

    had_bar = logging.is_progress_bar_enabled()
    verbosity = transformers.logging.get_verbosity()
    logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as the deprecation of rope_scaling, which users cannot act on
            yield
    finally:
        transformers.logging.set_verbosity(verbosity)
        if had_bar:
            logging.enable_progress_bar()
