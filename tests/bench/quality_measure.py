"""Quality of a built model: bits-per-byte on report texts and accuracy on questions, in torch.

The texts are the lab's `valid` files, which nothing calibrates or selects on. A row reads the first 128 KiB of each and
200 questions; a row that a claim rests on reads all of the domain's text, which is what claims are about.
"""

import math
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import msgspec

from edgeprune.calibrate.answers import AskedQuestions
from edgeprune.calibrate.corpus import encode
from edgeprune.calibrate.loss import cut_windows, measure_loss
from edgeprune.calibrate.questions import read_questions
from edgeprune.calibrate.token_bytes import token_byte_lengths
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.events import NullProgress
from tests.bench.quality_lab import CONTEXT_TOKENS

__all__ = ["CLAIM", "FULL", "PART", "QUICK", "Amount", "Quality", "bits_per_byte", "measure_quality", "wilson"]

_Z = 1.96
"""Of the two-sided 95 % interval."""


class Amount(NamedTuple):
    """How much of each file is read; None is all."""

    text_bytes: int | None
    questions: int | None
    is_domain_alone: bool = False
    """No other text is read, and nothing is asked."""


PART = Amount(128 * 1024, 200)
FULL = Amount(None, None)
CLAIM = Amount(None, 0, is_domain_alone=True)
QUICK = Amount(8 * 1024, 8)


class Quality(NamedTuple):
    """Of one model."""

    domain_bits: float
    """Bits-per-byte on the domain's report text."""
    other_bits: float | None = None
    """None, as all that follows, where the domain alone was read."""
    general_bits: float | None = None
    accuracy: float | None = None
    """Share of the domain's questions answered right."""
    accuracy_low: float | None = None
    accuracy_high: float | None = None
    question_count: int = 0


def measure_quality(model: LoadedModel, lab: Path, *, domain: str, other: str, amount: Amount) -> Quality:
    """Everything a row tells of quality."""
    text = lab / "text"
    domain_bits = bits_per_byte(model, text / f"{domain}.valid.jsonl", amount)
    if amount.is_domain_alone:
        return Quality(domain_bits=domain_bits)
    questions = read_questions(lab / "choice" / f"{domain}.valid.jsonl")[: amount.questions]
    asked = AskedQuestions(model, questions, context_tokens=CONTEXT_TOKENS)
    accuracy = asked.ask(model, progress=NullProgress()).accuracy
    low, high = wilson(accuracy, len(questions))
    return Quality(
        domain_bits=domain_bits,
        other_bits=bits_per_byte(model, text / f"{other}.valid.jsonl", amount),
        general_bits=bits_per_byte(model, text / "general.valid.jsonl", amount),
        accuracy=accuracy,
        accuracy_low=low,
        accuracy_high=high,
        question_count=len(questions),
    )


def bits_per_byte(model: LoadedModel, path: Path, amount: Amount) -> float:
    """Loss on a text file, each document cut into windows as validation cuts it."""
    windows = cut_windows(encode(model.tokenizer, _documents(path, amount.text_bytes)), CONTEXT_TOKENS)
    nats, _ = measure_loss(model, windows)
    lengths = token_byte_lengths(model.tokenizer)
    return nats / math.log(2) / sum(int(lengths[window[1:]].sum()) for window in windows)


def wilson(share: float, count: int) -> tuple[float, float]:
    """95 % interval of a share of `count` trials (Wilson 1927)."""
    squared = _Z * _Z
    centre = (share + squared / (2 * count)) / (1 + squared / count)
    half = _Z * math.sqrt(share * (1 - share) / count + squared / (4 * count * count)) / (1 + squared / count)
    return centre - half, centre + half


@lru_cache(maxsize=8)
def _documents(path: Path, limit_bytes: int | None) -> tuple[str, ...]:
    """Whole documents from the beginning of a file until the limit is reached."""
    documents: list[str] = []
    read = 0
    for line in path.read_bytes().splitlines():
        if limit_bytes is not None and read >= limit_bytes:
            break
        documents.append(msgspec.json.decode(line)["text"])
        read += len(documents[-1].encode())
    return tuple(documents)
