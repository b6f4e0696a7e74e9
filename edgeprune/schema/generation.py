"""What is asked of a bundle that writes text, and what it wrote."""

from typing import Literal

from edgeprune.errors import UsageError
from edgeprune.schema.base import SCHEMA_VERSION, Record

__all__ = ["FinishReason", "GeneratedText", "Piece", "Sampling"]

FinishReason = Literal["stop", "length", "cancelled"]
"""An end token or a stop text came; the tokens asked for or the context are used up; the reader left."""


class Sampling(Record, frozen=True, kw_only=True):
    """How the next token is taken from the logits."""

    temperature: float = 0.0
    """0 takes the most likely token; above, logits are divided by it before a token is drawn."""
    top_p: float = 1.0
    """Draw among the fewest most likely tokens that together have this probability."""
    seed: int | None = None
    """None draws differently every time."""
    max_tokens: int = 128
    stop: tuple[str, ...] = ()
    """Texts before which the answer ends; they are not part of it."""

    def __post_init__(self) -> None:
        """Refuse what no sampler can do.

        Raises:
            UsageError: names the field.
        """
        if not 0.0 <= self.temperature <= 100.0:
            raise UsageError(f"temperature {self.temperature:g} must lie in 0..100; 0 is greedy.")
        if not 0.0 < self.top_p <= 1.0:
            raise UsageError(f"top_p {self.top_p:g} must lie above 0 and at most 1.")
        if self.max_tokens < 1:
            raise UsageError(f"max_tokens {self.max_tokens} must be at least 1.")
        if any(not text for text in self.stop):
            raise UsageError("A stop text is empty; give at least one character.")


class Piece(Record, frozen=True, kw_only=True):
    """Text as it comes; `finish_reason` is set on the last piece alone."""

    text: str
    finish_reason: FinishReason | None = None


class GeneratedText(Record, frozen=True, kw_only=True):
    """A whole answer."""

    schema_version: int = SCHEMA_VERSION
    prompt: str
    """As the model read it, after the chat template."""
    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    prefill_s: float
    """Seconds until the first token was chosen."""
    decode_s: float | None
    """Mean seconds a further token; None when there was none."""
