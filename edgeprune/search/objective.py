"""What a search makes least, and how much of it a candidate has."""

from edgeprune.schema.budget import Budget, Objective
from edgeprune.schema.candidate import Candidate
from edgeprune.search.problem import Limits

__all__ = ["TIMED", "measure", "objective_of"]

TIMED: frozenset[Objective] = frozenset({"latency", "request"})
"""Objectives that depend on how much of the weights stays in the last-level cache."""


def objective_of(asked: Objective, limits: Limits | Budget) -> Objective:
    """The user's wish, and the memory where only quality is limited.

    Args:
        asked: of the budget.
        limits: the limits the search holds to, or the budget itself.
    """
    if asked != "loss":
        return asked
    if isinstance(limits, Limits):
        qualities = (limits.loss_nats, limits.general_nats, limits.accuracy_nats)
    else:
        qualities = (limits.max_loss, limits.max_general_loss, limits.min_accuracy)
    resources = (
        limits.memory_bytes, limits.device_memory_bytes, limits.latency_s, limits.first_token_s, limits.disk_bytes
    )  # fmt: skip
    only_quality = any(limit is not None for limit in qualities) and all(limit is None for limit in resources)
    return "memory" if only_quality else "loss"


def measure(candidate: Candidate, objective: Objective) -> float:
    """What a candidate is compared by: bytes, seconds (infinity where unknown) or nats."""
    cost = candidate.cost
    if objective == "memory":
        # Without a floor the solver compares model memory alone, which always has an upper end.
        return cost.peak_rss_bytes.high or cost.model_memory_bytes.high or float(cost.weights_bytes)
    if objective in TIMED:
        time = cost.decode_s if objective == "latency" else cost.request_s
        return float("inf") if time.high is None else time.high
    return candidate.loss_increase_nats
