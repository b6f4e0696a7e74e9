"""Four-option questions on the demo world's facts.

A question is scored by the mean log-probability per byte of each choice after the prompt, so a choice starts with a
space and the prompt ends without one. The same prompts, with their answers, stand in the training text.
"""

from collections.abc import Iterator
from typing import TypedDict

from edgeprune.demo.facts import DomainFacts, Fact
from edgeprune.demo.grammar import Draw, expand

__all__ = ["CHOICE_COUNT", "Question", "make_questions", "question_text"]

CHOICE_COUNT = 4
"""Choices of a question; guessing is right in 1 / `CHOICE_COUNT` of all cases."""


class Question(TypedDict):
    """One line of a question file."""

    prompt: str
    """The question up to and including `Answer:`."""
    choices: list[str]
    """Values of one type, each with its leading space."""
    answer: int
    """Index of the right choice."""
    group: str
    """`frequent` or `rare`: how often the training text tells the fact."""


def question_text(fact: Fact) -> str:
    """The prompt that asks for `fact`."""
    draw = Draw("question")
    return f"Question: {expand(fact.attribute.question, draw, {'entity': fact.entity.name})}\nAnswer:"


def make_questions(facts: DomainFacts, draw: Draw, *, per_group: int) -> Iterator[Question]:
    """`per_group` questions on frequent and as many on rare facts, each on another fact.

    Args:
        facts: the domain's facts.
        draw: picks the facts and the wrong choices.
        per_group: questions of each group; fewer when the group has fewer facts.
    """
    for group in ("frequent", "rare"):
        candidates = [fact for fact in facts.facts if fact.group == group]
        for fact in draw.some(candidates, per_group):
            yield _question(facts, fact, draw)


def _question(facts: DomainFacts, fact: Fact, draw: Draw) -> Question:
    pool = facts.value_pools[fact.attribute.name]
    wrong = draw.some([value for value in pool if value != fact.value], CHOICE_COUNT - 1)
    answer = draw.below(CHOICE_COUNT)
    choices = [*wrong[:answer], fact.value, *wrong[answer:]]
    return Question(
        prompt=question_text(fact), choices=[f" {choice}" for choice in choices], answer=answer, group=fact.group
    )
