"""The texts of one run: read, split, tokenised, checked for size, and written down for the later stages.

`read_parts` takes the user's paths and gives disjoint calibrate / select / report parts; `check_amount` tokenises them.
`write_corpus` and `read_split` keep them as `texts/{domain,general}.{calibrate,select,report}.jsonl`, so that no later
stage needs the user's files. `pack_windows` makes calibration windows: documents joined, the model's document separator
before each, cut every `window_tokens` tokens, the incomplete last window left out.
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import torch
from tokenizers import Tokenizer
from torch import Tensor

from edgeprune.artifacts import atomic_write
from edgeprune.calibrate.documents import Render, read_documents, read_lines
from edgeprune.calibrate.split import Split, split_by_hash, split_with_evaluation
from edgeprune.errors import CalibrationError
from edgeprune.schema.model import ModelSpec

__all__ = [
    "MINIMUM_TOKENS",
    "DocumentTokens",
    "check_amount",
    "encode",
    "pack_windows",
    "read_parts",
    "read_split",
    "separator_token",
    "write_corpus",
]

DocumentTokens = list[list[int]]
"""Token ids of documents, no special tokens added."""

MINIMUM_TOKENS = {"calibrate": 4096, "select": 512, "report": 512}
"""Least tokens of a part. Grams of 4,096 tokens have full rank up to that width and rank channels about as those of
ten times as many do; a difference of two losses over 512 tokens still has a standard error near 0.02 nats."""


def read_parts(domain: Sequence[Path], evaluation: Sequence[Path], *, render: Render) -> Split:
    """Read the user's texts and split them; with evaluation files the report part is on those.

    Raises:
        CalibrationError: a text that cannot be used, or a part without a document.
    """
    documents = read_documents(domain, render=render)
    if evaluation:
        split = split_with_evaluation(documents, read_documents(evaluation, render=render))
        if not split.report:
            raise CalibrationError("Every evaluation text also occurs in the domain text; give texts that are apart.")
        return split
    return split_by_hash(documents)


def encode(tokenizer: Tokenizer, documents: Sequence[str]) -> DocumentTokens:
    """Token ids of each document, no special tokens added."""
    return [encoding.ids for encoding in tokenizer.encode_batch(list(documents), add_special_tokens=False)]


def check_amount(split: Split, tokenizer: Tokenizer, *, what: str) -> dict[str, DocumentTokens]:
    """Tokens of each part.

    Raises:
        CalibrationError: too few in a part; the message says how many there are and how many are needed.
    """
    encoded = {part: encode(tokenizer, documents) for part, documents in split.parts().items()}
    for part, documents in encoded.items():
        found = sum(map(len, documents))
        if found < MINIMUM_TOKENS[part]:
            total = sum(sum(map(len, tokens)) for tokens in encoded.values())
            raise CalibrationError(
                f"The {what} text gives {found:,} tokens to {part} on (of {total:,} in {_count(split)} different "
                f"documents), and at least {MINIMUM_TOKENS[part]:,} are needed; give more text."
            )
    return encoded


def separator_token(spec: ModelSpec) -> int | None:
    """What stands before each document: the beginning-of-sequence token, else the first end token, else nothing."""
    if spec.bos_token_id is not None:
        return spec.bos_token_id
    return spec.eos_token_ids[0] if spec.eos_token_ids else None


def pack_windows(
    documents: DocumentTokens, *, separator: int | None, window_tokens: int, limit_tokens: int | None = None
) -> Tensor:
    """Windows [n, window_tokens] int32 of the documents joined in order, at most `limit_tokens` tokens."""
    joined: list[int] = []
    for document in documents:
        if limit_tokens is not None and len(joined) >= limit_tokens:
            break
        joined += document if separator is None else [separator, *document]
    usable = len(joined) if limit_tokens is None else min(len(joined), limit_tokens)
    count = usable // window_tokens
    return torch.tensor(joined[: count * window_tokens], dtype=torch.int32).view(count, window_tokens)


def write_corpus(folder: Path, name: str, split: Split) -> None:
    """Write the three parts of `domain` or `general`, one JSON object a line."""
    for part, documents in split.parts().items():
        lines = b"".join(msgspec.json.encode({"text": text}) + b"\n" for text in documents)
        atomic_write(_part_path(folder, name, part), lines)


def read_split(folder: Path, name: str, part: str) -> list[str]:
    """Documents of one part as `write_corpus` wrote them.

    Raises:
        CalibrationError: missing or damaged.
    """
    path = _part_path(folder, name, part)
    try:
        return [msgspec.json.decode(line, type=dict[str, str])["text"] for _, line in read_lines(path)]
    except (msgspec.DecodeError, KeyError) as error:
        raise CalibrationError(f"{path} is damaged ({error}); calibrate again.") from error


def _part_path(folder: Path, name: str, part: str) -> Path:
    return folder / f"{name}.{part}.jsonl"


def _count(split: Split) -> int:
    return sum(map(len, split.parts().values()))
