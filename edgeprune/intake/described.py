"""`DescribedModel`: what a configuration alone tells of a model, with or without its weights at hand.

Where a family reads the model, that is its `ModelSpec`, from the same functions that read a folder with weights. Where
none does, it is the count and the bytes of the weights, and the sentence that says why there is no more.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from edgeprune.artifacts import hash_file, hash_parts
from edgeprune.errors import ModelError, UnsupportedArchitectureError
from edgeprune.intake.spec import FileFacts, dense_config, folder_facts, spec_from_config
from edgeprune.intake.weights import LAYOUT_TYPES, WeightShapes, weight_shapes
from edgeprune.schema.model import ModelSpec

__all__ = ["DescribedModel", "describe_config", "describe_folder"]

_DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}


@dataclass(frozen=True, kw_only=True)
class DescribedModel:
    """One model by its configuration; exactly one of `spec` and `weights` is set."""

    name: str
    model_type: str
    license: str | None
    parameter_count: int
    max_positions: int
    spec: ModelSpec | None
    """None where no family reads the model, so that EdgePrune can neither compress nor export it yet."""
    weights: WeightShapes | None
    """Set where `spec` is None."""
    refusal: str | None
    """Why no family reads it; None where one does."""


def describe_config(config: dict[str, Any], facts: FileFacts, *, bytes_per_parameter: int) -> DescribedModel:
    """What a configuration tells; `facts.source_bytes` of 0 is replaced by parameters times `bytes_per_parameter`.

    Raises:
        ModelError: a field is missing or malformed.
        UnsupportedArchitectureError: no family reads it, and its weights cannot be counted either.
    """
    try:
        spec = spec_from_config(config, facts)
    except UnsupportedArchitectureError as error:
        if config.get("model_type") not in LAYOUT_TYPES:
            raise
        weights = weight_shapes(config)
        return DescribedModel(
            name=facts.name,
            model_type=config["model_type"],
            license=facts.license,
            parameter_count=weights.parameter_count,
            max_positions=weights.max_positions,
            spec=None,
            weights=weights,
            refusal=str(error),
        )
    if facts.source_bytes == 0:
        spec = replace(spec, source_bytes=bytes_per_parameter * spec.parameter_count)
    return DescribedModel(
        name=spec.name,
        model_type=spec.model_type,
        license=spec.license,
        parameter_count=spec.parameter_count,
        max_positions=spec.max_positions,
        spec=spec,
        weights=None,
        refusal=None,
    )


def describe_folder(folder: Path) -> DescribedModel:
    """What the configuration in a folder tells; its weights, if there are any, are not opened.

    Raises:
        ModelError: no configuration, or a malformed one.
        UnsupportedArchitectureError: no family reads it, and its weights cannot be counted either.
    """
    try:
        config = dense_config(folder)
        dtype = config.get("dtype") or config.get("torch_dtype")
        known = dtype if dtype in _DTYPE_BYTES else "float32"
        facts = folder_facts(
            folder,
            config,
            model_hash=hash_parts("config only", hash_file(folder / "config.json")),
            source_dtype=known,
            source_bytes=sum(path.stat().st_size for path in folder.glob("*.safetensors")),
        )
    except OSError as error:
        raise ModelError(f"{error.filename or folder} cannot be read ({error.strerror}); check the file.") from error
    return describe_config(config, facts, bytes_per_parameter=_DTYPE_BYTES[known])
