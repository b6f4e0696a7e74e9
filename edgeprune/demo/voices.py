"""What a domain's documents are made of: its words and the templates of its genres.

The data lies in one file per domain (`law.py`, `medicine.py`, `finance.py`, `general.py`); `documents.py` turns it
into text. All documents know the slots listed in `COMMON_SLOTS`, besides those of their domain's `words`.
"""

from dataclasses import dataclass

__all__ = ["COMMON_SLOTS", "Genre", "Section", "Voice", "words"]

COMMON_SLOTS = (
    *(f"{who}{part}" for who in ("p", "q") for part in ("", "_first", "_last", "_he", "_him", "_his", "_trade")),
    *("town", "other_town", "month", "day", "year", "amount", "other_amount", "count", "number", "weather"),
    *("quality", "manner", "entity"),
)
"""`p` and `q` are the document's two persons; `entity` is what it is about."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a document: a heading, and sentences of which each document tells some, in this order."""

    heading: str
    """Template; empty for a part without heading."""
    sentences: tuple[str, ...]
    """Templates, each of one or more whole sentences."""
    tells_facts: bool = False
    """True when facts about the document's entity stand between the sentences."""


@dataclass(frozen=True, kw_only=True)
class Genre:
    """A kind of document."""

    title: str
    """Template of the first line."""
    sections: tuple[Section, ...]
    """In the order of the document."""
    closing: tuple[str, ...]
    """Templates of which one ends the document; they recall what was said above."""
    part: str = "Part"
    """Word before a section's number."""


@dataclass(frozen=True, kw_only=True)
class Voice:
    """A domain's words and genres."""

    entity_noun: str
    """What an entity is called after its first mention, as in "the drug"."""
    register_title: str
    """Heading of a list of entities."""
    trades: tuple[str, ...]
    """What persons do."""
    fixed_words: dict[str, tuple[str, ...]]
    """Slots that keep one value throughout a document."""
    loose_words: dict[str, tuple[str, ...]]
    """Slots drawn anew each time, from a few words picked for the document."""
    genres: tuple[Genre, ...]
    """All alike in frequency."""


def words(text: str) -> tuple[str, ...]:
    """The comma-separated words of `text`."""
    return tuple(word.strip() for word in text.replace("\n", " ").split(",") if word.strip())
