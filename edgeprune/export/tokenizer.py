"""The tokenizer in a bundle: one `tokenizer.json` that tokenizers, transformers and onnxruntime-genai all load.

A tokenizer that was not edited is copied byte for byte; an edited one (fewer tokens) is written from memory, and the
tables of its companions that would name old ids are left out. `vocab.json` and `merges.txt` repeat what tokenizer.json
says and are not copied.
"""

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from edgeprune.artifacts import atomic_write
from edgeprune.errors import ExportError
from edgeprune.schema.model import ModelSpec

__all__ = ["write_tokenizer"]

_COPIED = ("special_tokens_map.json", "chat_template.jinja")

_KNOWN_TO_GENAI = "PreTrainedTokenizerFast"
"""The class name every loader takes for "all is in tokenizer.json"; newer transformers write others, genai refuses."""

_OLD_IDS = ("added_tokens_decoder", "vocab_file", "merges_file")


def write_tokenizer(tokenizer: Tokenizer, source: Path, folder: Path, *, spec: ModelSpec, context_tokens: int) -> None:
    """Write the tokenizer files of a bundle.

    Args:
        tokenizer: as the model uses it.
        source: folder of the dense model, whose companion files are taken over.
        folder: the bundle.
        spec: names the special tokens.
        context_tokens: written as the longest text.

    Raises:
        ExportError: the companion files cannot be read.
    """
    original = source / "tokenizer.json"
    if original.is_file() and _same(tokenizer, original):
        atomic_write(folder / "tokenizer.json", original.read_bytes())
    else:
        atomic_write(folder / "tokenizer.json", tokenizer.to_str().encode("utf-8"))
    for name in _COPIED:
        if (source / name).is_file():
            atomic_write(folder / name, (source / name).read_bytes())
    config = _read_config(source / "tokenizer_config.json")
    for key in _OLD_IDS:
        config.pop(key, None)
    config["tokenizer_class"] = _KNOWN_TO_GENAI
    config["model_max_length"] = context_tokens
    specials = (
        ("bos_token", spec.bos_token_id),
        ("eos_token", spec.eos_token_ids[0] if spec.eos_token_ids else None),
        ("pad_token", spec.pad_token_id),
    )
    for key, token_id in specials:
        token = None if token_id is None else tokenizer.id_to_token(token_id)
        if token is not None:
            config.setdefault(key, token)
    data = json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    atomic_write(folder / "tokenizer_config.json", data.encode("utf-8"))


def _same(tokenizer: Tokenizer, path: Path) -> bool:
    stored = Tokenizer.from_file(str(path))
    stored.no_padding()
    stored.no_truncation()
    return bool(stored.to_str() == tokenizer.to_str())


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExportError(f"{path} cannot be read ({error}); download the model's tokenizer again.") from error
    if not isinstance(config, dict):
        raise ExportError(f"{path} does not hold an object; download the model's tokenizer again.")
    return config
