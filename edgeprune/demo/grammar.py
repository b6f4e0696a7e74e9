"""Templates and the seeded choices that fill them.

A template is text with alternatives `[one|two|]` (nested at will) and slots `{name}`. A slot is filled from the
document's slots: a string stands as it is, a tuple gives one of its members, drawn anew each time.

Every draw goes through `Draw`, which uses only `random.Random.random()`: its sequence is fixed by the language
reference for a given seed, so the same seed gives the same text on every version of Python.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias, TypeVar

__all__ = ["Draw", "Slots", "expand", "sentence_case"]

T = TypeVar("T")

_VOWEL_ARTICLE = re.compile(r"\b([Aa]) (?=[aeio]|u(?!s|ni))")

Slots = Mapping[str, str | tuple[str, ...]]


class Draw:
    """Seeded choices; equal seeds give equal choices."""

    def __init__(self, *key: object) -> None:
        # A string seed is hashed with SHA-512 by `random`, so the key needs no stable hash of its own.
        self._random = random.Random("/".join(str(part) for part in key))

    def fraction(self) -> float:
        """A number in [0, 1)."""
        return self._random.random()

    def below(self, limit: int) -> int:
        """An integer in [0, limit)."""
        return int(self._random.random() * limit)

    def between(self, first: int, last: int) -> int:
        """An integer in [first, last]."""
        return first + self.below(last - first + 1)

    def chance(self, fraction: float) -> bool:
        """True in `fraction` of all calls."""
        return self._random.random() < fraction

    def one(self, items: Sequence[T]) -> T:
        """One of `items`, all alike."""
        return items[self.below(len(items))]

    def some(self, items: Sequence[T], count: int) -> list[T]:
        """`count` different members of `items` in random order."""
        left = list(items)
        return [left.pop(self.below(len(left))) for _ in range(min(count, len(left)))]

    def weighted(self, cumulative: Sequence[float]) -> int:
        """An index, drawn by the rising sums of the weights."""
        goal = self._random.random() * cumulative[-1]
        low, high = 0, len(cumulative) - 1
        while low < high:
            middle = (low + high) // 2
            if cumulative[middle] > goal:
                high = middle
            else:
                low = middle + 1
        return low


@dataclass(frozen=True)
class _Slot:
    name: str


@dataclass(frozen=True)
class _Alternatives:
    options: tuple["_Parts", ...]


_Parts: TypeAlias = tuple[str | _Slot | _Alternatives, ...]


def expand(template: str, draw: Draw, slots: Slots) -> str:
    """The template with every alternative chosen and every slot filled.

    Raises:
        KeyError: the template names a slot that `slots` lacks.
    """
    out: list[str] = []
    _write(_parse(template), draw, slots, out)
    return _VOWEL_ARTICLE.sub(r"\1n ", "".join(out))


def sentence_case(text: str) -> str:
    """The text with its first letter raised."""
    return text[:1].upper() + text[1:]


def _write(parts: _Parts, draw: Draw, slots: Slots, out: list[str]) -> None:
    for part in parts:
        if isinstance(part, str):
            out.append(part)
        elif isinstance(part, _Slot):
            value = slots[part.name]
            out.append(value if isinstance(value, str) else draw.one(value))
        else:
            _write(draw.one(part.options), draw, slots, out)


@cache
def _parse(template: str) -> _Parts:
    options, position = _parse_options(template, 0)
    if position != len(template) or len(options) != 1:
        raise ValueError(f"unbalanced template: {template!r}")
    return options[0]


def _parse_options(template: str, position: int) -> tuple[list[_Parts], int]:
    """Alternatives from `position` up to the closing bracket or the end."""
    options: list[_Parts] = []
    parts: list[str | _Slot | _Alternatives] = []
    start = position
    while position < len(template):
        mark = template[position]
        if mark not in "[]{|":
            position += 1
            continue
        if position > start:
            parts.append(template[start:position])
        if mark == "{":
            end = template.index("}", position)
            parts.append(_Slot(template[position + 1 : end]))
            position = end + 1
        elif mark == "[":
            inner, position = _parse_options(template, position + 1)
            parts.append(_Alternatives(tuple(inner)))
            position += 1
        elif mark == "|":
            options.append(tuple(parts))
            parts = []
            position += 1
        else:
            break
        start = position
    else:
        if position > start:
            parts.append(template[start:position])
    options.append(tuple(parts))
    return options, position
