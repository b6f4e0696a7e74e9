"""`Question`: one question of a task file, multiple choice or exact match."""

from edgeprune.schema.base import Record

__all__ = ["Question"]


class Question(Record, frozen=True, kw_only=True):
    """A prompt, what may follow it, and which of those is right.

    With one choice it is an exact-match question: right when greedy decoding writes that text, token by token.
    """

    prompt: str
    choices: tuple[str, ...]
    """Each continues the prompt; one of them alone is the exact answer."""
    answer: int
    """Index of the right choice."""
