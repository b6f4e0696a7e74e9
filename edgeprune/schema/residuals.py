"""`Evaluation` and `Residuals`: recipes that were really built and measured, and what was learned from them.

A measured increase is a difference on the same selection text, compressed minus dense, so it may fall below zero
within noise. Losses are rounded to a millionth of a nat: what lies below changes with the number of threads.
"""

import msgspec

from edgeprune.schema.base import SCHEMA_VERSION, Record
from edgeprune.schema.recipe import Recipe

__all__ = ["Evaluation", "EvaluationTask", "ResidualFit", "Residuals"]


class EvaluationTask(Record, frozen=True, kw_only=True):
    """One recipe to build and measure, as it crosses to whatever process does the work."""

    key: str
    """sha256 over everything the result depends on; names the result."""
    recipe_hash: str
    """sha256 of the edits alone: labels, seed and context length do not count."""
    model: str
    """Folder of the dense model."""
    model_hash: str
    stats: str
    """`stats.safetensors` of the dense model."""
    stats_hash: str
    refresh_tokens: int | None = None
    """About as many calibration tokens are read where statistics are measured anew between edits; None reads all."""
    texts: str
    """Folder with the run's texts; only the `select` parts are read."""
    texts_hash: str
    window_tokens: int
    token_limit: int
    """About as many tokens of domain selection text are scored."""
    general_token_limit: int = 0
    """The same of general selection text; 0 leaves the general loss unmeasured."""
    questions: str | None = None
    """Multiple-choice questions to select on, which no report may use."""
    questions_hash: str | None = None
    recipe: Recipe


class Evaluation(Record, frozen=True, kw_only=True):
    """What one recipe, really built, was measured to cost."""

    schema_version: int = SCHEMA_VERSION
    key: str
    recipe_hash: str
    recipe: Recipe
    loss_increase_nats: float
    """On domain selection text, per token of the dense tokenizer."""
    general_loss_increase_nats: float | None = None
    """The same on general selection text; None where it was not measured."""
    relative_loss: float
    """Bits-per-byte on domain selection text / the dense model's, minus one."""
    general_relative_loss: float | None = None
    """The same on general selection text."""
    accuracy: float | None = None
    """Share of the selection questions answered right; None without questions."""
    token_limit: int
    """How much selection text this was measured on."""
    scored_tokens: int
    """Domain tokens really scored, counted with the dense tokenizer."""


class ResidualFit(Record, frozen=True, kw_only=True):
    """The surrogate fitted to evaluations, and how well it predicts those it was not fitted on."""

    multipliers: dict[str, float] = msgspec.field(default_factory=dict)
    """Family -> what its predicted losses are multiplied by."""
    interactions: dict[str, float] = msgspec.field(default_factory=dict)
    """`family*family` -> coefficient of the product of their predicted losses, in 1 / nats."""
    largest_sums: dict[str, float] = msgspec.field(default_factory=dict)
    """Family -> largest predicted loss that was measured; in products its losses count up to this."""
    evaluation_count: int
    spearman: float | None = None
    """Leave-one-out: rank correlation of predicted and measured increases; None below three evaluations."""
    median_relative_error: float | None = None
    """Leave-one-out: median of |predicted - measured| / measured increase; None below three evaluations."""


class Residuals(Record, frozen=True, kw_only=True):
    """The recipes a search built, in that order, each as measured on most text, and the fit they gave."""

    schema_version: int = SCHEMA_VERSION
    model_hash: str
    scores_hash: str
    """Of the scores beside which the recipes were measured; under other scores these residuals say nothing."""
    evaluations: tuple[Evaluation, ...] = ()
    predicted_nats: tuple[float, ...] = ()
    """For each evaluation: the loss increase predicted before that recipe was built."""
    fit: ResidualFit | None = None
    """None when nothing was evaluated."""
    general_fit: ResidualFit | None = None
    """The same of the losses on general text; None when fewer than three were measured, or none was scored."""
    notes: tuple[str, ...] = ()
