"""`Budget`: what the user allows, and `Workload`: what the device will be asked to do."""

from typing import Literal

from edgeprune.schema.base import Record

__all__ = ["DECODE_TOKENS", "Budget", "BudgetRequest", "Limit", "Objective", "Workload"]

Objective = Literal["loss", "memory", "latency", "request"]
"""What is made least within the limits; `request` is the time of a whole one, its prompt and its tokens."""

DECODE_TOKENS = 64
"""Tokens decoded where the user names no mix of prompt and generated tokens."""


class Limit(Record, frozen=True, kw_only=True):
    """An absolute limit or a share of the dense model's value; exactly one field is set."""

    absolute: float | None = None
    """Bytes or seconds."""
    percent_of_dense: float | None = None
    """0.6 for `60%`."""


class BudgetRequest(Record, frozen=True, kw_only=True):
    """Limits as the user wrote them; percentages are resolved once the dense model's values are known."""

    memory: Limit | None = None
    device_memory: Limit | None = None
    """Memory of the accelerator."""
    latency: Limit | None = None
    first_token: Limit | None = None
    """Time to first token."""
    disk: Limit | None = None
    max_loss: float | None = None
    max_general_loss: float | None = None
    min_accuracy: float | None = None
    """0.7: at least 70 % of the questions answered right."""
    reserve_bytes: int = 0
    """Memory kept free for the user's own program, taken off the memory limit."""
    objective: Objective = "loss"
    """All but `loss` need `max_loss`; with limits on quality alone the least memory is taken anyway."""


class Budget(Record, frozen=True, kw_only=True):
    """Resolved limits; None means not limited."""

    memory_bytes: int | None = None
    """Peak resident memory of the process, floor included, reserve already taken off."""
    device_memory_bytes: int | None = None
    """Peak memory of the accelerator that the process uses."""
    latency_s: float | None = None
    """Seconds per token: median of the tokens decoded up to the end of the context."""
    first_token_s: float | None = None
    """Seconds from a prompt that leaves room for the decoded tokens to the first token."""
    disk_bytes: int | None = None
    """Bytes of the bundle without its evaluation sets."""
    max_loss: float | None = None
    """0.02: bits-per-byte at most 1.02 times the dense bundle's on the same text."""
    max_general_loss: float | None = None
    """The same on general text."""
    min_accuracy: float | None = None
    """Share of the questions of the task file answered right, at least."""
    reserve_bytes: int = 0
    memory_percent_of_dense: float | None = None
    """Set where the memory limit was a percentage: validation resolves it again from the measured dense bundle."""
    latency_percent_of_dense: float | None = None
    """The same for the latency limit."""
    device_memory_percent_of_dense: float | None = None
    first_token_percent_of_dense: float | None = None
    objective: Objective = "loss"
    origin: str = "user"
    """`user`, or `default` when no limit was given."""


class Workload(Record, frozen=True, kw_only=True):
    """Lengths the predictions and measurements refer to."""

    context_tokens: int
    prefill_chunk_tokens: int = 128
    """Prompts are fed in pieces of at most this many tokens, which bounds activation memory."""
    decode_tokens: int = DECODE_TOKENS
    """Tokens decoded up to the end of the context; what comes before them is the prompt."""
    thread_count: int | None = None
    """None: the device's usable cores."""
