"""Evaluation sets inside a bundle: texts and questions, tokenised, so that a device needs no corpus and no tokenizer.

Bits-per-byte divides by UTF-8 bytes of exactly the scored tokens, so every token gets its share of its document's
bytes. A byte-level token is as many bytes as its piece has characters; any other tokenizer gives positions in the text,
and a token then counts the bytes between its predecessor's end and its own. Either way the shares of a document sum to
its bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from edgeprune.artifacts import write_arrays
from edgeprune.errors import ExportError
from edgeprune.schema.bundle import ChoiceSet, TextSet
from edgeprune.schema.questions import Question

__all__ = [
    "TEXT_LIMIT_BYTES",
    "EvaluationChoices",
    "EvaluationText",
    "TokenizedText",
    "limit_documents",
    "token_byte_counts",
    "tokenize_text",
    "window_spans",
    "write_choices",
    "write_text",
]

TEXT_LIMIT_BYTES = 128 * 1024
"""Longer texts are cut here: about 30,000 tokens, which fixes bits-per-byte to a few thousandths."""


@dataclass(frozen=True, kw_only=True)
class EvaluationText:
    """A text to measure bits-per-byte on."""

    name: str
    """`domain` or `general`."""
    documents: list[str]
    description: str = ""


@dataclass(frozen=True, kw_only=True)
class EvaluationChoices:
    """Multiple-choice questions to measure accuracy on."""

    name: str
    questions: list[Question]
    description: str = ""


@dataclass(frozen=True, kw_only=True)
class TokenizedText:
    """Documents as tokens."""

    tokens: NDArray[np.int32]
    offsets: NDArray[np.int64]
    """Document d is tokens[offsets[d]:offsets[d + 1]]."""
    byte_counts: NDArray[np.int64]
    """UTF-8 bytes of each token."""


def limit_documents(documents: Sequence[str], *, limit_bytes: int) -> tuple[list[str], bool]:
    """Documents in order up to a number of UTF-8 bytes; the one that crosses it is cut between characters.

    Returns:
        The documents, and whether anything was left out.
    """
    kept: list[str] = []
    left = limit_bytes
    for document in documents:
        encoded = document.encode("utf-8")
        if len(encoded) > left:
            rest = encoded[:left].decode("utf-8", errors="ignore")
            return ([*kept, rest] if rest else kept), True
        kept.append(document)
        left -= len(encoded)
    return kept, False


def tokenize_text(tokenizer: Tokenizer, documents: Sequence[str]) -> TokenizedText:
    """Tokenise each document apart, without special tokens; documents without tokens vanish."""
    byte_level = _is_byte_level(tokenizer)
    tokens: list[int] = []
    counts: list[NDArray[np.int64]] = []
    offsets = [0]
    for document in documents:
        encoding = tokenizer.encode(document, add_special_tokens=False)
        if not encoding.ids:
            continue
        tokens.extend(encoding.ids)
        counts.append(token_byte_counts(encoding, document, is_byte_level=byte_level))
        offsets.append(len(tokens))
    return TokenizedText(
        tokens=np.asarray(tokens, dtype=np.int32),
        offsets=np.asarray(offsets, dtype=np.int64),
        byte_counts=np.concatenate(counts) if counts else np.zeros(0, dtype=np.int64),
    )


def token_byte_counts(encoding: Encoding, text: str, *, is_byte_level: bool) -> NDArray[np.int64]:
    """UTF-8 bytes of each token; they sum to the bytes of the text."""
    total = len(text.encode("utf-8"))
    if is_byte_level:
        # A byte-level piece writes one character for each byte.
        pieces = np.asarray([len(piece) for piece in encoding.tokens], dtype=np.int64)
        if int(pieces.sum()) == total:
            return pieces
    # Prefix sums of bytes per character: a token reaches to the byte where its span ends, the last one to the end.
    ends = np.cumsum([0, *(len(character.encode("utf-8")) for character in text)])
    reached = np.maximum.accumulate([int(ends[end]) for _, end in encoding.offsets])
    reached[-1] = total
    return np.diff(reached, prepend=0).astype(np.int64)


def window_spans(offsets: NDArray[np.int64], window_tokens: int) -> list[tuple[int, int]]:
    """Begin and end of the windows cut from each document apart; windows of one token score nothing and are left out.

    Args:
        offsets: [documents + 1], as in `TokenizedText`.
        window_tokens: longest window.
    """
    spans: list[tuple[int, int]] = []
    for begin, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        starts = range(begin, end, window_tokens)
        spans.extend((start, stop) for start in starts if (stop := min(start + window_tokens, end)) - start > 1)
    return spans


def write_text(
    text: EvaluationText, tokenizer: Tokenizer, folder: Path, *, window_tokens: int, limit_bytes: int = TEXT_LIMIT_BYTES
) -> TextSet:
    """Tokenise a text and write `eval/<name>.npz` into the bundle.

    Raises:
        ExportError: nothing of the text can be scored.
    """
    documents, was_cut = limit_documents(text.documents, limit_bytes=limit_bytes)
    tokenized = tokenize_text(tokenizer, documents)
    spans = window_spans(tokenized.offsets, window_tokens)
    if not spans:
        raise ExportError(
            f"The evaluation text {text.name!r} has no document of two tokens or more; give a longer text."
        )
    scored_bytes = sum(int(tokenized.byte_counts[begin + 1 : end].sum()) for begin, end in spans)
    path = f"eval/{text.name}.npz"
    arrays: dict[str, NDArray[Any]] = {
        "tokens": tokenized.tokens,
        "offsets": tokenized.offsets,
        "token_bytes": tokenized.byte_counts.astype(np.int32),
    }
    write_arrays(folder / path, arrays)
    note = f"first {len(documents)} of {len(text.documents)} documents, {limit_bytes} bytes" if was_cut else ""
    return TextSet(
        name=text.name,
        path=path,
        scored_bytes=scored_bytes,
        window_tokens=window_tokens,
        reference_loss_nats=None,
        description="; ".join(part for part in (text.description, note) if part),
    )


def write_choices(choices: EvaluationChoices, tokenizer: Tokenizer, folder: Path, *, context_tokens: int) -> ChoiceSet:
    """Tokenise questions and write `eval/<name>.npz` into the bundle.

    Prompts are stored whole; whoever scores them cuts the beginning where a sequence exceeds the context.

    Raises:
        ExportError: there is no question, or a prompt or choice that has no tokens or leaves no room for a prompt.
    """
    if not choices.questions:
        raise ExportError(f"The question set {choices.name!r} is empty; give at least one question.")
    tokens: list[int] = []
    offsets, prompt_lengths, choice_bytes = [0], [], []
    for number, question in enumerate(choices.questions, start=1):
        where = f"question {number} of {choices.name!r}"
        prompt = tokenizer.encode(question.prompt, add_special_tokens=False).ids
        if not prompt:
            raise ExportError(f"The prompt of {where} has no tokens; every question needs a prompt.")
        for choice in question.choices:
            ids = tokenizer.encode(choice, add_special_tokens=False).ids
            if not ids or len(ids) >= context_tokens:
                raise ExportError(
                    f"A choice of {where} has {len(ids)} tokens; it needs at least one and must leave room for a "
                    f"prompt in a context of {context_tokens}."
                )
            tokens.extend((*prompt, *ids))
            offsets.append(len(tokens))
            prompt_lengths.append(len(prompt))
            choice_bytes.append(len(choice.encode("utf-8")))
    path = f"eval/{choices.name}.npz"
    arrays: dict[str, NDArray[Any]] = {
        "tokens": np.asarray(tokens, dtype=np.int32),
        "offsets": np.asarray(offsets, dtype=np.int64),
        "prompt_lengths": np.asarray(prompt_lengths, dtype=np.int32),
        "choice_bytes": np.asarray(choice_bytes, dtype=np.int32),
        "choice_counts": np.asarray([len(question.choices) for question in choices.questions], dtype=np.int32),
        "answers": np.asarray([question.answer for question in choices.questions], dtype=np.int32),
    }
    write_arrays(folder / path, arrays)
    return ChoiceSet(
        name=choices.name, path=path, question_count=len(choices.questions), description=choices.description
    )


def _is_byte_level(tokenizer: Tokenizer) -> bool:
    """Whether pieces spell bytes, one character each."""
    vocabulary = tokenizer.get_vocab(with_added_tokens=False)
    # Space and newline as byte-level tokenizers spell them; other tokenizers know neither as a token of its own.
    return "Ġ" in vocabulary and "Ċ" in vocabulary
