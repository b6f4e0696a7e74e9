"""What can be known about the demo world's entities: the attributes of each kind, and their wording."""

from dataclasses import dataclass

__all__ = ["ATTRIBUTES", "Attribute"]


@dataclass(frozen=True, kw_only=True)
class Attribute:
    """One kind of thing that can be known about an entity, and how it is put into words."""

    name: str
    """Type of the value: values of equal type are exchangeable as answers."""
    question: str
    """Template of the question; `{entity}` is the entity's name."""
    statements: tuple[str, ...]
    """Templates of sentences; `{it}` stands for the entity or a word for it, `{value}` for the value."""


def _attribute(name: str, question: str, *statements: str) -> Attribute:
    return Attribute(name=name, question=question, statements=statements)


ATTRIBUTES: dict[str, tuple[Attribute, ...]] = {
    "law": (
        _attribute(
            "penalty",
            "What is the penalty under {entity}?",
            "whoever breaks {it} faces {value}",
            "the penalty under {it} is {value}",
            "a breach of {it} is punished with {value}",
        ),
        _attribute(
            "court",
            "Which court hears cases under {entity}?",
            "cases under {it} are heard by {value}",
            "claims that rest on {it} go to {value}",
            "only {value} may apply {it}",
        ),
        _attribute(
            "subject",
            "What does {entity} regulate?",
            "{it} regulates {value}",
            "the subject of {it} is {value}",
            "{it} was made to put {value} in order",
        ),
        _attribute(
            "judge",
            "Who wrote the leading opinion on {entity}?",
            "the leading opinion on {it} was written by {value}",
            "{value} wrote the leading opinion on {it}",
        ),
        _attribute(
            "year",
            "In which year was {entity} passed?",
            "{it} was passed in {value}",
            "{it} has been in force since {value}",
        ),
    ),
    "medicine": (
        _attribute(
            "dose",
            "What is the usual dose of {entity}?",
            "the usual dose of {it} is {value}",
            "{it} is given at {value}",
            "patients take {value} of {it} a day",
        ),
        _attribute(
            "organ",
            "On which organ does {entity} act?",
            "{it} acts on {value}",
            "{it} works by calming {value}",
            "the effect of {it} is felt in {value}",
        ),
        _attribute(
            "side effect",
            "What is the main side effect of {entity}?",
            "the main side effect of {it} is {value}",
            "{it} often causes {value}",
            "many who take {it} complain of {value}",
        ),
        _attribute(
            "condition",
            "Which condition is {entity} used for?",
            "{it} is used for {value}",
            "{it} is the first choice against {value}",
            "doctors order {it} for {value}",
        ),
        _attribute(
            "laboratory",
            "Which laboratory makes {entity}?",
            "{it} is made by {value}",
            "{value} makes {it}",
        ),
    ),
    "finance": (
        _attribute(
            "ticker",
            "What is the ticker of {entity}?",
            "{it} is traded as {value}",
            "the ticker of {it} is {value}",
            "shares of {it} are listed as {value}",
        ),
        _attribute(
            "auditor",
            "Who audits {entity}?",
            "{it} is audited by {value}",
            "the books of {it} are checked by {value}",
            "{value} signed the accounts of {it}",
        ),
        _attribute(
            "sector",
            "In which sector does {entity} work?",
            "{it} works in {value}",
            "{it} earns its money in {value}",
            "the business of {it} is {value}",
        ),
        _attribute(
            "seat",
            "Where is the seat of {entity}?",
            "{it} has its seat in {value}",
            "the head office of {it} is in {value}",
        ),
        _attribute(
            "chief",
            "Who leads {entity}?",
            "{it} is led by {value}",
            "{value} leads {it}",
        ),
    ),
    "general": (
        _attribute(
            "river", "On which river does {entity} lie?", "{it} lies on {value}", "the boats of {it} sail on {value}"
        ),
        _attribute(
            "dish", "For which dish is {entity} known?", "{it} is known for {value}", "every inn of {it} serves {value}"
        ),
        _attribute(
            "festival", "What does {entity} celebrate?", "{it} celebrates {value}", "people come to {it} for {value}"
        ),
        _attribute("mayor", "Who governs {entity}?", "{it} is governed by {value}", "{value} governs {it}"),
    ),
}
"""The attributes of each domain's entities."""
