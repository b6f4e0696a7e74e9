"""Which tokens to keep, and the tokenizer that knows only those (contextual pruning, arXiv 2312.12682).

Rows are removed, never zeroed. Only tokenizers that can write any text with 256 byte tokens, so that encoding stays
lossless whatever is dropped: byte-level BPE, and BPE or Unigram as SentencePiece makes them where unknown characters
fall back to bytes. The order of use is closed under merges: every prefix of it holds, with a token, the parts it is
merged from, so a trimmed tokenizer can build each token it keeps. Text that used kept tokens alone reads as before: no
merge on the way to them has gone, and the best path of a Unigram is still there, nothing having become likelier.
"""

import itertools
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from edgeprune.calibrate.statistics import CalibrationStats
from edgeprune.calibrate.token_bytes import is_byte_level

__all__ = ["can_trim", "falls_back_to_bytes", "last_merge", "mandatory_count", "token_order", "trim_tokenizer_json"]

BYTE_TOKENS = tuple(f"<0x{value:02X}>" for value in range(256))
WORD_MARK = "\u2581"
"""Stands for a space in SentencePiece's tokens."""


def can_trim(tokenizer_json: dict[str, Any]) -> bool:
    """Whether the tokenizer is a BPE or Unigram with all 256 bytes in its vocabulary."""
    model = tokenizer_json.get("model") or {}
    if model.get("type") not in ("BPE", "Unigram"):
        return False
    vocabulary = _vocabulary(tokenizer_json)
    if falls_back_to_bytes(tokenizer_json):
        return WORD_MARK in vocabulary and all(token in vocabulary for token in BYTE_TOKENS)
    return (
        model["type"] == "BPE" and is_byte_level(tokenizer_json) and sum(len(token) == 1 for token in vocabulary) >= 256
    )


def falls_back_to_bytes(tokenizer_json: dict[str, Any]) -> bool:
    """Whether characters without a token are written as `<0x..>`, as SentencePiece's tokenizers do."""
    return bool((tokenizer_json.get("model") or {}).get("byte_fallback")) and not is_byte_level(tokenizer_json)


def token_order(stats: CalibrationStats, tokenizer: Tokenizer) -> NDArray[np.int64]:
    """[tokens] ids in order of use: what must stay, then by count in domain text, general text, and id.

    The first k ids (k at least `mandatory_count`) are what `KeepTokens(kept_count=k)` keeps.
    """
    tokenizer_json = json.loads(tokenizer.to_str())
    vocabulary = _vocabulary(tokenizer_json)
    parents = _parents(tokenizer_json, vocabulary)
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
    """Tokens that always stay: added (special) tokens, the 256 bytes, and what reading them needs."""
    return len(_mandatory(tokenizer_json))


def trim_tokenizer_json(tokenizer_json: dict[str, Any], kept_ids: Collection[int]) -> dict[str, Any]:
    """The tokenizer without the other tokens, ids renumbered in ascending order of the old ones.

    Merges go when their result or a part is gone. Added tokens are in `kept_ids` by construction of `token_order`.
    """
    new_ids = {old: new for new, old in enumerate(sorted(kept_ids))}
    trimmed = {
        **tokenizer_json,
        "added_tokens": [
            {**token, "id": new_ids[token["id"]]} for token in tokenizer_json["added_tokens"] if token["id"] in new_ids
        ],
        "model": _trimmed_model(tokenizer_json["model"], new_ids),
    }
    if tokenizer_json.get("post_processor") is not None:
        trimmed["post_processor"] = _renumbered(tokenizer_json["post_processor"], new_ids)
    return trimmed


def _trimmed_model(model: dict[str, Any], new_ids: dict[int, int]) -> dict[str, Any]:
    if model["type"] == "Unigram":
        kept = [entry for index, entry in enumerate(model["vocab"]) if index in new_ids]
        return {**model, "vocab": kept, "unk_id": None if model["unk_id"] is None else new_ids[model["unk_id"]]}
    vocabulary = {token: new_ids[old] for token, old in model["vocab"].items() if old in new_ids}
    merges = [
        merge
        for merge, (left, right) in zip(model["merges"], _pairs(model["merges"]), strict=True)
        if left in vocabulary and right in vocabulary and left + right in vocabulary
    ]
    return {**model, "vocab": vocabulary, "merges": merges}


def _vocabulary(tokenizer_json: dict[str, Any]) -> dict[str, int]:
    vocabulary = tokenizer_json["model"].get("vocab") or {}
    if isinstance(vocabulary, dict):
        return vocabulary
    return {token: index for index, (token, _) in enumerate(vocabulary)}


def _mandatory(tokenizer_json: dict[str, Any]) -> list[int]:
    vocabulary, model = _vocabulary(tokenizer_json), tokenizer_json["model"]
    added = {token["id"] for token in tokenizer_json["added_tokens"]}
    if not falls_back_to_bytes(tokenizer_json):
        return sorted(added | {index for token, index in vocabulary.items() if len(token) == 1})
    # The word mark must not become bytes: decoders turn it into a space before they join bytes.
    needed = {vocabulary[token] for token in (*BYTE_TOKENS, WORD_MARK, model.get("unk_token")) if token in vocabulary}
    if model["type"] == "Unigram":
        needed.add(model["unk_id"])
        # An unknown character is ten less likely than the least likely token (tokenizers, unigram/model.rs); with that
        # token gone it would become likelier than before, and so would paths through characters without a token.
        needed.add(min(range(len(model["vocab"])), key=lambda index: (model["vocab"][index][1], index)))
    return sorted((added | needed) - {None})


def _pairs(merges: Sequence[str | Sequence[str]]) -> Iterable[tuple[str, str]]:
    """Merges are pairs, or in older files two tokens with a space between."""
    for merge in merges:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        yield left, right


def _parents(tokenizer_json: dict[str, Any], vocabulary: dict[str, int]) -> dict[int, tuple[int, int]]:
    """Token -> the parts it is merged from; none for a Unigram, whose tokens need no others.

    Of a byte-level BPE the parts of the earliest merge that makes it. SentencePiece's conversion lists every split of a
    token as a merge: there the last merge when the token alone is read tells.
    """
    merges = tokenizer_json["model"].get("merges") or ()
    parents: dict[int, tuple[int, int]] = {}
    if falls_back_to_bytes(tokenizer_json):
        known = [pair for pair in _pairs(merges) if pair[0] in vocabulary and pair[1] in vocabulary]
        ranks = {pair: rank for rank, pair in reversed(list(enumerate(known)))}
        for token, index in vocabulary.items():
            if (split := last_merge(token, ranks)) is not None:
                parents[index] = (vocabulary[split[0]], vocabulary[split[1]])
    for left, right in _pairs(merges):
        result = vocabulary.get(left + right)
        if result is not None and left in vocabulary and right in vocabulary:
            parents.setdefault(result, (vocabulary[left], vocabulary[right]))
    return parents


def last_merge(token: str, ranks: Mapping[tuple[str, str], int]) -> tuple[str, str] | None:
    """The pair that becomes `token` in the end, when merges are applied to its characters lowest rank first.

    None where a character is left over, or there was one alone.
    """
    parts, last = list(token), None
    while len(parts) > 1:
        pairs = [(ranks[pair], at) for at, pair in enumerate(itertools.pairwise(parts)) if pair in ranks]
        if not pairs:
            return None
        at = min(pairs)[1]
        last = (parts[at], parts[at + 1])
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return last


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
