"""Documents in three disjoint parts: calibrate (statistics), select (losses the search sees), report (final figures).

The part follows from the sha256 of the text alone, so adding documents never moves the others; each part is ordered by
that hash, so that the first n documents of a part are a fair sample of it. A text that occurs
twice, or also in the files given for evaluation, stays in the first of the parts in the order calibrate, select, report
and leaves the later one.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Split", "split_by_hash", "split_by_rank", "split_with_evaluation"]

_CALIBRATE_SHARE = 0.6
_SELECT_SHARE = 0.2
_CALIBRATE_SHARE_WITH_EVALUATION = 0.75


@dataclass(frozen=True, kw_only=True)
class Split:
    """Three lists of documents without a text in common."""

    calibrate: list[str]
    select: list[str]
    report: list[str]

    def parts(self) -> dict[str, list[str]]:
        """By name, in order."""
        return {"calibrate": self.calibrate, "select": self.select, "report": self.report}


def split_by_hash(documents: Sequence[str]) -> Split:
    """60 % calibrate, 20 % select, 20 % report."""
    parts: tuple[list[str], list[str], list[str]] = ([], [], [])
    for text in _ordered(documents):
        position = _position(text)
        parts[(position >= _CALIBRATE_SHARE) + (position >= _CALIBRATE_SHARE + _SELECT_SHARE)].append(text)
    return Split(calibrate=parts[0], select=parts[1], report=parts[2])


def split_with_evaluation(documents: Sequence[str], evaluation: Sequence[str]) -> Split:
    """75 % calibrate, 25 % select of the domain's documents; report is the evaluation documents not among them."""
    parts: tuple[list[str], list[str]] = ([], [])
    for text in _ordered(documents):
        parts[_position(text) >= _CALIBRATE_SHARE_WITH_EVALUATION].append(text)
    known = set(documents)
    report = [text for text in _ordered(evaluation) if text not in known]
    return Split(calibrate=parts[0], select=parts[1], report=report)


def split_by_rank(documents: Sequence[str]) -> Split:
    """60, 20 and 20 % by rank of the hash: exact shares for the few documents a model generates itself."""
    ordered = _ordered(documents)
    first = round(_CALIBRATE_SHARE * len(ordered))
    second = first + max(1, round(_SELECT_SHARE * len(ordered)))
    return Split(calibrate=ordered[:first], select=ordered[first:second], report=ordered[second:])


def _ordered(documents: Sequence[str]) -> list[str]:
    return sorted(dict.fromkeys(documents), key=_position)


def _position(text: str) -> float:
    """Where the text's hash lies in [0, 1)."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48
