"""`LaserReport`: what a search for LASER interventions tried and what the chosen ones do."""

from typing import Literal

from edgeprune.schema.base import SCHEMA_VERSION, Record

__all__ = ["LaserAnswers", "LaserPrior", "LaserReport", "LaserTrial"]

LaserPrior = Literal["marchenko_pastur", "gavish_donoho", "gradient"]
"""What proposes an intervention: an edge of the noise in the matrix's singular values, or the gradient of the loss."""


class LaserTrial(Record, frozen=True, kw_only=True):
    """One set of interventions asked the selection questions, or some of them."""

    sites: tuple[str, ...]
    ranks: tuple[int, ...]
    """In the order of `sites`."""
    question_count: int
    accuracy: float
    log_loss: float
    """Mean negative log-probability of the right answer, nats a question."""
    loss_change: float | None = None
    """Relative change of the loss on domain selection text; None where it was not measured."""
    is_rejected: bool = False
    """True when the loss on domain text rose beyond what was allowed."""
    priors: tuple[LaserPrior | None, ...] = ()
    """What proposed each of `sites`; None where nothing did, since the search tries all. Empty in older records."""


class LaserAnswers(Record, frozen=True, kw_only=True):
    """Accuracy and log-loss on the report questions."""

    question_count: int
    dense_accuracy: float
    accuracy: float
    accuracy_change_low: float
    accuracy_change_high: float
    """95 % interval of the change, by a paired bootstrap over questions."""
    dense_log_loss: float
    log_loss: float


class LaserReport(Record, frozen=True, kw_only=True):
    """A whole search."""

    schema_version: int = SCHEMA_VERSION
    search: str
    """`grid`, `fast` or `compose`."""
    selection_count: int
    """Questions that chose: a fifth."""
    evaluations: float
    """Times all selection questions were asked of an edited model; parts count in proportion."""
    dense_accuracy: float
    dense_log_loss: float
    """Of the dense model on the selection questions."""
    trials: tuple[LaserTrial, ...]
    sites: tuple[str, ...]
    ranks: tuple[int, ...]
    """The chosen interventions; empty when none beats the dense model."""
    priors: tuple[LaserPrior | None, ...] = ()
    """What proposed each of them, as in the trials."""
    report: LaserAnswers
    """On the questions that chose nothing."""
