"""`read_spec`: the shapes of a model from `config.json` and safetensors headers alone (no torch, no transformers).

The configuration says what shapes to expect, the headers say what is stored; the spec exists only where they agree
tensor by tensor, so a malformed configuration never reaches an allocation of the size it claims.
"""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from edgeprune.artifacts import hash_file, hash_parts
from edgeprune.errors import ModelError
from edgeprune.intake.config import read_json
from edgeprune.intake.families import Family, FamilyShapes, family_for
from edgeprune.intake.headers import TensorHeader, WeightFiles, find_weights
from edgeprune.schema.model import ModelSpec
from edgeprune.shapes import count_parameters

__all__ = ["TOKENIZER_FILES", "FileFacts", "dense_config", "folder_facts", "read_spec", "spec_from_config"]

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)

_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_FRONT_MATTER = re.compile(r"\A---\s*\n(.*?)\n---\s*(?:\n|\Z)", re.DOTALL)
_LICENSE_LINE = re.compile(r"^license(_name)?:[ \t]*[\"']?([^\"'\n#]+)", re.MULTILINE)
_NAMED = ("other", "unknown")


@dataclass(frozen=True, kw_only=True)
class FileFacts:
    """The part of a `ModelSpec` that the files beside a configuration determine; fields mean what they mean there."""

    name: str
    model_hash: str
    source_dtype: str
    source_bytes: int
    tokenizer_bytes: int
    generation: dict[str, Any]
    """generation_config.json; empty where there is none."""
    license: str | None


def read_spec(folder: Path) -> ModelSpec:
    """Shapes, hash and file facts of the model in a folder.

    Raises:
        ModelError: missing, malformed or truncated files, or weights that do not have the configured shapes.
        UnsupportedArchitectureError: no family reads it.
    """
    try:
        return _read(folder)
    except OSError as error:
        raise ModelError(f"{error.filename or folder} cannot be read ({error.strerror}); check the file.") from error


def spec_from_config(config: dict[str, Any], facts: FileFacts) -> ModelSpec:
    """Shapes a configuration describes, whether or not its weights are at hand.

    Raises:
        ModelError: a field is missing or malformed.
        UnsupportedArchitectureError: no family reads it, or not this variant.
    """
    family = family_for(config)
    return _assemble(config, family, family.shapes(config), facts)


def dense_config(folder: Path) -> dict[str, Any]:
    """The configuration of the dense model in a folder.

    Raises:
        ModelError: no folder, no configuration, a malformed one, or that of a model already compressed.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder} is not a folder; give the folder of a Hugging Face model or a hub id.")
    config_path = folder / "config.json"
    if not config_path.is_file():
        raise ModelError(f"{folder} has no config.json; give the folder of a Hugging Face model.")
    config = read_json(config_path)
    if "edgeprune" in config:
        raise ModelError(
            f"{folder} is a model that EdgePrune has already compressed; give the dense model it was made "
            "from, or open it with edgeprune.load."
        )
    return config


def folder_facts(
    folder: Path, config: dict[str, Any], *, model_hash: str, source_dtype: str, source_bytes: int
) -> FileFacts:
    """What the other files of a folder say; weights are described by the caller, who may not have any.

    Raises:
        ModelError: a malformed generation_config.json.
    """
    return FileFacts(
        name=_model_name(folder),
        model_hash=model_hash,
        source_dtype=source_dtype,
        source_bytes=source_bytes,
        tokenizer_bytes=sum((folder / name).stat().st_size for name in TOKENIZER_FILES if (folder / name).is_file()),
        generation=_read_optional(folder / "generation_config.json"),
        license=_license(folder, config),
    )


def _read(folder: Path) -> ModelSpec:
    config = dense_config(folder)
    family = family_for(config)
    weights = find_weights(folder)
    shapes = family.shapes(config)
    stored = _check_tensors(family, shapes, weights)
    facts = folder_facts(
        folder,
        config,
        model_hash=hash_parts(hash_file(folder / "config.json"), [hash_file(path) for path in weights.paths]),
        source_dtype=_source_dtype(stored),
        source_bytes=weights.size_bytes,
    )
    return _assemble(config, family, shapes, facts)


def _assemble(config: dict[str, Any], family: Family, shapes: FamilyShapes, facts: FileFacts) -> ModelSpec:
    bos, eos, pad = _special_tokens(config, facts.generation, shapes.vocab_size)
    architectures = config.get("architectures") or [""]
    spec = ModelSpec(
        name=facts.name,
        model_hash=facts.model_hash,
        model_type=config["model_type"],
        family=family.name,
        architecture=architectures[0],
        hidden_size=shapes.hidden_size,
        vocab_size=shapes.vocab_size,
        max_positions=shapes.max_positions,
        position_offset=shapes.position_offset,
        is_tied=shapes.is_tied,
        position_kind=shapes.position_kind,
        rotary_dim=shapes.rotary_dim,
        rotary_table_count=shapes.rotary_table_count,
        norm_kind=shapes.norm_kind,
        norm_epsilon=shapes.norm_epsilon,
        activation=shapes.activation,
        is_gated=shapes.is_gated,
        sliding_window=shapes.sliding_window,
        blocks=shapes.blocks,
        final_norm_parameter_count=shapes.final_norm_parameter_count,
        source_dtype=facts.source_dtype,
        source_bytes=facts.source_bytes,
        parameter_count=0,
        tokenizer_bytes=facts.tokenizer_bytes,
        bos_token_id=bos,
        eos_token_ids=eos,
        pad_token_id=pad,
        license=facts.license,
    )
    return replace(spec, parameter_count=count_parameters(spec))


def _check_tensors(family: Family, shapes: FamilyShapes, weights: WeightFiles) -> list[TensorHeader]:
    """The parameters the weight files hold, which must be exactly those the configuration describes."""
    stored: dict[str, TensorHeader] = {}
    for tensor in weights.tensors.values():
        name = family.strip(tensor.name)
        if name is not None:
            stored[name] = tensor
    expected = family.tensors(shapes)
    if shapes.is_tied:
        stored.pop("lm_head.weight", None)  # some checkpoints store the tied head a second time
    missing = [name for name in expected if name not in stored]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ModelError(
            f"The weights lack the tensor {missing[0]!r}{more} that config.json describes; the download is incomplete "
            "or the configuration belongs to another model."
        )
    for name, shape in expected.items():
        if stored[name].shape != shape:
            raise ModelError(
                f"The tensor {stored[name].name!r} has the shape {list(stored[name].shape)}, but config.json describes "
                f"{list(shape)}; the configuration belongs to another model."
            )
        if stored[name].dtype not in _DTYPES:
            raise ModelError(
                f"The tensor {stored[name].name!r} is stored as {stored[name].dtype}; only float32, float16 and "
                "bfloat16 weights are read, so take or make a release of the model in one of those."
            )
    unknown = [tensor.name for name, tensor in stored.items() if name not in expected]
    if unknown:
        raise ModelError(
            f"The weights hold the tensor {unknown[0]!r} that config.json does not describe; the configuration belongs "
            "to another model."
        )
    return [stored[name] for name in expected]


def _source_dtype(stored: list[TensorHeader]) -> str:
    """The dtype of most weights."""
    counts: Counter[str] = Counter()
    for tensor in stored:
        counts[_DTYPES[tensor.dtype]] += tensor.element_count
    return counts.most_common(1)[0][0]


def _special_tokens(
    config: dict[str, Any], generation: dict[str, Any], vocab_size: int
) -> tuple[int | None, tuple[int, ...], int | None]:
    """Ids of begin, end and padding; config.json first for the single ones, generation_config.json first for ends."""

    def ids(value: Any) -> tuple[int, ...]:
        entries = value if isinstance(value, list) else [value]
        return tuple(
            entry
            for entry in entries
            if isinstance(entry, int) and not isinstance(entry, bool) and 0 <= entry < vocab_size
        )

    def single(key: str) -> int | None:
        return next(iter(ids(config.get(key)) or ids(generation.get(key))), None)

    ends = dict.fromkeys(ids(generation.get("eos_token_id")) + ids(config.get("eos_token_id")))
    return single("bos_token_id"), tuple(ends), single("pad_token_id")


def _model_name(folder: Path) -> str:
    """The folder's name, or the hub id when it is a snapshot in the hub's cache."""
    path = folder.resolve()
    cached = path.parent.parent.name
    if path.parent.name == "snapshots" and cached.startswith("models--"):
        return cached.removeprefix("models--").replace("--", "/")
    return path.name


def _read_optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _license(folder: Path, config: dict[str, Any]) -> str | None:
    """Licence from the front matter of README.md, or from config.json."""
    readme = folder / "README.md"
    if readme.is_file():
        with readme.open("rb") as stream:
            head = stream.read(1 << 16).decode("utf-8", errors="replace").replace("\r\n", "\n")
        front = _FRONT_MATTER.match(head)
        found = dict(_license_lines(front.group(1))) if front else {}
        plain, named = found.get("license"), found.get("license_name")
        if plain and plain.lower() not in _NAMED:
            return plain
        if named or plain:
            return named or plain
    value = config.get("license")
    return value if isinstance(value, str) and value else None


def _license_lines(front_matter: str) -> list[tuple[str, str]]:
    return [(f"license{suffix or ''}", value.strip()) for suffix, value in _LICENSE_LINE.findall(front_matter)]
