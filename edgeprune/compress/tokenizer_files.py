"""The tokenizer files that belong beside an edited model.

Takes a loaded model; gives file name -> bytes. With the full vocabulary the source's files are passed on unchanged.
With a trimmed one tokenizer.json is the trimmed tokenizer, tokenizer_config.json has its ids rewritten and names the
class that takes tokenizer.json as it is (a family's own, such as transformers' LlamaTokenizer, takes over vocabulary
and merges alone and splits otherwise), and files that list the old vocabulary (vocab.json, merges.txt) are left out,
since tokenizer.json holds both.
"""

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from edgeprune.errors import ModelError
from edgeprune.intake.config import read_json
from edgeprune.intake.load import LoadedModel
from edgeprune.intake.spec import TOKENIZER_FILES

__all__ = ["tokenizer_files"]

_LISTS_VOCABULARY = ("vocab.json", "merges.txt")
_AS_IT_IS = "PreTrainedTokenizerFast"


def tokenizer_files(loaded: LoadedModel, *, is_trimmed: bool) -> dict[str, bytes]:
    """File name -> bytes of the tokenizer.

    Raises:
        ModelError: a file of the source cannot be read.
    """
    files = {}
    for name in TOKENIZER_FILES:
        path = loaded.folder / name
        if not path.is_file() or (is_trimmed and name in _LISTS_VOCABULARY):
            continue
        files[name] = _read(path)
    if is_trimmed:
        files["tokenizer.json"] = loaded.tokenizer.to_str(pretty=False).encode()
        if "tokenizer_config.json" in files:
            config = _renumbered(read_json(loaded.folder / "tokenizer_config.json"), loaded.tokenizer)
            config |= {"tokenizer_class": _AS_IT_IS}
            files["tokenizer_config.json"] = (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode()
    return files


def _renumbered(config: dict[str, Any], tokenizer: Tokenizer) -> dict[str, Any]:
    """`added_tokens_decoder` is keyed by id; entries follow their token, those of removed tokens go."""
    decoder = config.get("added_tokens_decoder")
    if not isinstance(decoder, dict):
        return config
    kept = {}
    for entry in decoder.values():
        new_id = tokenizer.token_to_id(entry["content"]) if isinstance(entry, dict) and "content" in entry else None
        if new_id is not None:
            kept[str(new_id)] = entry
    return {**config, "added_tokens_decoder": dict(sorted(kept.items(), key=lambda item: int(item[0])))}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); check the model folder.") from error
