"""Documents of the demo world, made from the domains' voices and the fact table.

A document names two persons, a place, a date, a sum of money and an entity early on, and comes back to them later by
name, pronoun or role; its loose words come from a small set picked for it. What comes back can be predicted from far
earlier text but not from the last few words, which is what tells a language model from a table of n-grams.
"""

from edgeprune.demo.facts import DomainFacts, Entity, Fact, FactTable
from edgeprune.demo.finance import FINANCE
from edgeprune.demo.general import GENERAL
from edgeprune.demo.grammar import Draw, expand, sentence_case
from edgeprune.demo.law import LAW
from edgeprune.demo.lexicon import (
    GIVEN_NAMES_HER,
    GIVEN_NAMES_HIM,
    MANNERS,
    MONTHS,
    NUMBER_WORDS,
    QUALITIES,
    WEATHERS,
)
from edgeprune.demo.medicine import MEDICINE
from edgeprune.demo.questions import question_text
from edgeprune.demo.references import References
from edgeprune.demo.voices import Genre, Section, Voice

__all__ = ["VOICES", "write_document"]

VOICES: dict[str, Voice] = {"law": LAW, "medicine": MEDICINE, "finance": FINANCE, "general": GENERAL}
"""Voice by domain name."""

SHEET_FRACTION = 0.3
"""Documents that are sheets of questions and answers."""

REGISTER_FRACTION = 0.15
"""Documents that are numbered lists of entities."""


def write_document(table: FactTable, domain: str, draw: Draw) -> str:
    """One document of `domain`; its text depends on nothing but the arguments."""
    facts, voice = table.domains[domain], VOICES[domain]
    kind = draw.fraction()
    if kind < SHEET_FRACTION:
        return _sheet(domain, facts, draw)
    if kind < SHEET_FRACTION + REGISTER_FRACTION:
        return _register(voice, facts, draw)
    return _Report(table, facts, voice, draw).text()


def _sheet(domain: str, facts: DomainFacts, draw: Draw) -> str:
    """Questions and answers; no fact twice."""
    count = draw.between(5, 10)
    asked: dict[int, Fact] = {}
    while len(asked) < count:
        fact = facts.draw_fact(draw)
        asked.setdefault(fact.rank, fact)
    lines = [f"{NUMBER_WORDS[count].capitalize()} questions on {domain}", ""]
    for fact in asked.values():
        lines += [f"{question_text(fact)} {fact.value}", ""]
    return "\n".join(lines).rstrip()


def _register(voice: Voice, facts: DomainFacts, draw: Draw) -> str:
    """A numbered list of entities, each with the same attributes in the same order."""
    count = draw.between(4, 7)
    columns = draw.some(facts.attributes, 3)
    listed: dict[str, Entity] = {}
    while len(listed) < count:
        entity = facts.draw_fact(draw).entity
        listed.setdefault(entity.name, entity)
    named = _enumerate([attribute.name for attribute in columns])
    lines = [voice.register_title, "", f"This list of {NUMBER_WORDS[count]} gives {named}.", ""]
    for index, entity in enumerate(listed.values(), 1):
        cells = "; ".join(f"{attribute.name}, {entity.values[attribute.name]}" for attribute in columns)
        lines.append(f"{index}. {sentence_case(entity.name)}: {cells}.")
    first, *_, last = listed
    lines += ["", f"{sentence_case(first)} stands first in this list and {last} last."]
    return "\n".join(lines)


class _Report:
    """One document of a genre while it is being written."""

    def __init__(self, table: FactTable, facts: DomainFacts, voice: Voice, draw: Draw) -> None:
        self._facts, self._voice, self._draw = facts, voice, draw
        self._entity = facts.draw_fact(draw).entity
        self._told: list[Fact] = facts.draw_facts_of(self._entity, draw, draw.between(2, 4))
        self._mentioned = False
        self._slots = self._draw_slots(table)
        self._references = References()

    def text(self) -> str:
        """The whole document."""
        genre = self._draw.one(self._voice.genres)
        paragraphs = [self._say(genre.title)]
        waiting = list(self._told)
        telling = sum(section.tells_facts for section in genre.sections)
        for number, section in enumerate(genre.sections, 1):
            share: list[Fact] = []
            if section.tells_facts:
                share, waiting = waiting[: -(-len(waiting) // telling)], waiting[-(-len(waiting) // telling) :]
                telling -= 1
            paragraphs.append(self._section(genre, section, number, share))
        paragraphs.append(self._closing(genre))
        return "\n\n".join(paragraphs)

    def _section(self, genre: Genre, section: Section, number: int, share: list[Fact]) -> str:
        draw = self._draw
        # The first two sentences name whom and what the others come back to; a third of the others is left out.
        later = range(2, len(section.sentences))
        kept = [0, 1, *sorted(draw.some(later, len(later) * 2 // 3))]
        picked: list[str | Fact] = [section.sentences[index] for index in kept]
        for fact in share:
            picked.insert(draw.between(1, len(picked)), fact)
        told = [self._sentence(item) if isinstance(item, str) else self._fact_sentence(item) for item in picked]
        head = f"{genre.part} {number}. {self._say(section.heading)}\n" if section.heading else ""
        return head + " ".join(told)

    def _closing(self, genre: Genre) -> str:
        closing = self._sentence(self._draw.one(genre.closing))
        recalled = [f"{fact.attribute.name}, {fact.value}" for fact in self._told]
        return f"{closing}\nIn short, {self._entity.name}: {'; '.join(recalled)}."

    def _fact_sentence(self, fact: Fact) -> str:
        draw = self._draw
        it = self._entity.name
        if self._mentioned and draw.chance(0.75):
            it = draw.one((f"the {self._voice.entity_noun}", f"this {self._voice.entity_noun}"))
        self._mentioned = True
        template = draw.one(fact.attribute.statements)
        return sentence_case(expand(template, draw, {"it": it, "value": fact.value})) + "."

    def _sentence(self, template: str) -> str:
        if "{entity}" in template:
            self._mentioned = True
        return sentence_case(self._say(self._references.resolve(template)))

    def _say(self, template: str) -> str:
        return expand(template, self._draw, self._slots)

    def _draw_slots(self, table: FactTable) -> dict[str, str | tuple[str, ...]]:
        draw, voice = self._draw, self._voice
        town, other_town = draw.some(table.towns, 2)
        surnames = draw.some(table.surnames, 2)
        trades = draw.some(voice.trades, 2)
        slots: dict[str, str | tuple[str, ...]] = {
            "town": town,
            "other_town": other_town,
            "month": draw.one(MONTHS),
            "day": str(draw.between(1, 28)),
            "year": str(draw.between(1905, 1960)),
            "amount": str(draw.between(2, 99) * 10),
            "other_amount": str(draw.between(2, 99) * 10),
            "count": NUMBER_WORDS[draw.between(2, 9)],
            "number": str(draw.between(1000, 9999)),
            "weather": draw.one(WEATHERS),
            "quality": tuple(draw.some(QUALITIES, 5)),
            "manner": tuple(draw.some(MANNERS, 4)),
            "entity": self._entity.name,
        }
        for who, surname, trade in zip(("p", "q"), surnames, trades, strict=True):
            slots |= _person(who, surname, trade, draw)
        slots |= {name: draw.one(options) for name, options in voice.fixed_words.items()}
        slots |= {name: tuple(draw.some(options, 4)) for name, options in voice.loose_words.items()}
        return slots


def _person(who: str, surname: str, trade: str, draw: Draw) -> dict[str, str]:
    her = draw.chance(0.5)
    first = draw.one(GIVEN_NAMES_HER if her else GIVEN_NAMES_HIM)
    he, him, his = ("she", "her", "her") if her else ("he", "him", "his")
    return {
        who: f"{first} {surname}",
        f"{who}_first": first,
        f"{who}_last": f"{'Mrs' if her else 'Mr'} {surname}",
        f"{who}_he": he,
        f"{who}_him": him,
        f"{who}_his": his,
        f"{who}_trade": trade,
    }


def _enumerate(items: list[str]) -> str:
    return ", ".join(items[:-1]) + " and " + items[-1]
