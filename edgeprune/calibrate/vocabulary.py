"""Which tokens to keep, and the tokenizer that knows only those (contextual pruning, arXiv 2312.12682).

Rows are removed, never zeroed. Byte-level BPE only: any text can then still be written with the 256 byte tokens, so
encoding stays lossless whatever is dropped. The order of use is closed under merges: every prefix of it holds, with a
token, the two parts it is merged from, so a trimmed tokenizer can build each token it keeps.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from edgeprune.calibrate.statistics import CalibrationStats
from edgeprune.calibrate.token_bytes import is_byte_level

__all__ = ["can_trim", "mandatory_count", "token_order", "trim_tokenizer_json"]


def can_trim(tokenizer_json: dict[str, Any]) -> bool:
    """Whether the tokenizer is a byte-level BPE with all 256 bytes in its vocabulary."""
    model = tokenizer_json.get("model") or {}
    return (
        model.get("type") == "BPE"
        and is_byte_level(tokenizer_json)
        and sum(len(token) == 1 for token in model.get("vocab", {})) >= 256
    )


def token_order(stats: CalibrationStats, tokenizer: Tokenizer) -> NDArray[np.int64]:
    """[tokens] ids in order of use: what must stay, then by count in domain text, general text, and id.

    The first k ids (k at least `mandatory_count`) are what `KeepTokens(kept_count=k)` keeps.
    """
    tokenizer_json = json.loads(tokenizer.to_str())
    vocabulary: dict[str, int] = tokenizer_json["model"]["vocab"]
    parents = _parents(tokenizer_json["model"]["merges"], vocabulary)
    domain, general = stats.token_count.tolist(), stats.general_token_count.tolist()
    ordered = _mandatory(tokenizer_json)
    placed = set(ordered)
    by_use = sorted(
        (index for index in vocabulary.values() if index not in placed),
        key=lambda index: (-domain[index], -general[index], index),
    )
    for index in by_use:
        _place(index, parents, placed, ordered)
    return np.array(ordered, dtype=np.int64)


def mandatory_count(tokenizer_json: dict[str, Any]) -> int:
    """Tokens that always stay: added (special) tokens and the 256 bytes."""
    return len(_mandatory(tokenizer_json))


def trim_tokenizer_json(tokenizer_json: dict[str, Any], kept_ids: Collection[int]) -> dict[str, Any]:
    """The tokenizer without the other tokens, ids renumbered in ascending order of the old ones.

    Merges go when their result or a part is gone. Added tokens are in `kept_ids` by construction of `token_order`.
    """
    new_ids = {old: new for new, old in enumerate(sorted(kept_ids))}
    model = tokenizer_json["model"]
    vocabulary = {token: new_ids[old] for token, old in model["vocab"].items() if old in new_ids}
    merges = [
        merge
        for merge, (left, right) in zip(model["merges"], _pairs(model["merges"]), strict=True)
        if left in vocabulary and right in vocabulary and left + right in vocabulary
    ]
    trimmed = {
        **tokenizer_json,
        "added_tokens": [
            {**token, "id": new_ids[token["id"]]} for token in tokenizer_json["added_tokens"] if token["id"] in new_ids
        ],
        "model": {**model, "vocab": vocabulary, "merges": merges},
    }
    if tokenizer_json.get("post_processor") is not None:
        trimmed["post_processor"] = _renumbered(tokenizer_json["post_processor"], new_ids)
    return trimmed


def _mandatory(tokenizer_json: dict[str, Any]) -> list[int]:
    vocabulary: dict[str, int] = tokenizer_json["model"]["vocab"]
    added = {token["id"] for token in tokenizer_json["added_tokens"]}
    bytes_ = {index for token, index in vocabulary.items() if len(token) == 1}
    return sorted(added | bytes_)


def _pairs(merges: Sequence[str | Sequence[str]]) -> Iterable[tuple[str, str]]:
    """Merges are pairs, or in older files two tokens with a space between."""
    for merge in merges:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        yield left, right


def _parents(merges: Sequence[str | Sequence[str]], vocabulary: dict[str, int]) -> dict[int, tuple[int, int]]:
    """Token -> the parts of the earliest merge that makes it."""
    parents: dict[int, tuple[int, int]] = {}
    for left, right in _pairs(merges):
        result = vocabulary.get(left + right)
        if result is not None and left in vocabulary and right in vocabulary:
            parents.setdefault(result, (vocabulary[left], vocabulary[right]))
    return parents


def _place(index: int, parents: dict[int, tuple[int, int]], placed: set[int], ordered: list[int]) -> None:
    """Append a token after all its missing ancestors."""
    waiting = [index]
    while waiting:
        current = waiting[-1]
        missing = [part for part in parents.get(current, ()) if part not in placed and part not in waiting]
        if missing:
            waiting += missing
            continue
        waiting.pop()
        if current not in placed:
            placed.add(current)
            ordered.append(current)


def _renumbered(value: Any, new_ids: dict[int, int]) -> Any:
    """Token ids inside a post-processor (`ids` of template tokens, `["</s>", 2]` pairs of others)."""
    if isinstance(value, dict):
        return {
            key: [new_ids.get(old, old) for old in item]
            if key == "ids" and isinstance(item, list)
            else _renumbered(item, new_ids)
            for key, item in value.items()
        }
    if isinstance(value, list):
        if len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int):
            return [value[0], new_ids.get(value[1], value[1])]
        return [_renumbered(item, new_ids) for item in value]
    return value
