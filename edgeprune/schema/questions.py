"""`Question`: one multiple-choice question, as users write them and bundles carry them."""

from edgeprune.schema.base import Record

__all__ = ["Question"]


class Question(Record, frozen=True, kw_only=True):
    """A prompt, what may follow it, and which of those is right."""

    prompt: str
    choices: tuple[str, ...]
    """At least two, each continuing the prompt."""
    answer: int
    """Index of the right choice."""
