"""How far the second-order predictions are off, found by doing each family of edits for real once.

The prediction 0.5 * output_weight * tr(dW S dW^T) takes gradients and errors as independent, and the loss as quadratic.
Neither holds far from the dense model, so one moderate edit of every site at once is made in memory and its loss on
selection text measured; measured / predicted scales all losses of the family.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from edgeprune.calibrate.selection import Selection, exchanged_sites, loss_increase
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.events import Progress

__all__ = ["Correction", "measure_correction"]

_LARGEST = 20.0
"""Factors beyond this, either way, tell of a measurement lost in noise rather than of the model."""


@dataclass(frozen=True, kw_only=True)
class Correction:
    """One family's check against reality."""

    family: str
    edit: str
    """What was done, in words."""
    predicted: float
    """Nats per token."""
    measured: float
    general_predicted: float | None = None
    general_measured: float | None = None
    """On general text; None where that was not measured."""

    @property
    def factor(self) -> float:
        """What the family's losses are multiplied by, within a twentieth and twenty."""
        return _factor(self.predicted, self.measured)

    @property
    def general_factor(self) -> float:
        """The same for its losses on general text; 1 where nothing was measured there."""
        if self.general_predicted is None or self.general_measured is None:
            return 1.0
        return _factor(self.general_predicted, self.general_measured)

    @property
    def note(self) -> str:
        """One sentence for `Scores.notes`."""
        return (
            f"{self.family}: {self.edit} was predicted to add {self.predicted:.4f} nats a token and added "
            f"{self.measured:.4f} on selection text, a factor of {self.factor:.3f}{self._general_note}."
        )

    @property
    def _general_note(self) -> str:
        if self.general_predicted is None or self.general_measured is None:
            return ""
        return (
            f"; on general text {self.general_predicted:.4f} was predicted and {self.general_measured:.4f} measured, a "
            f"factor of {self.general_factor:.3f}"
        )


def measure_correction(
    loaded: LoadedModel,
    selection: Selection,
    weights: Mapping[str, Tensor],
    *,
    family: str,
    edit: str,
    predicted: float,
    progress: Progress,
    general: Selection | None = None,
    general_predicted: float | None = None,
) -> Correction:
    """Compare a prediction with what the sites' other weights [out, in] really cost, on general text too if given."""
    elsewhere = None
    with exchanged_sites(loaded, weights):
        measured = loss_increase(loaded, selection, progress=progress)
        if general is not None:
            elsewhere = loss_increase(loaded, general, progress=progress)
    return Correction(
        family=family,
        edit=edit,
        predicted=predicted,
        measured=measured,
        general_predicted=general_predicted,
        general_measured=elsewhere,
    )


def _factor(predicted: float, measured: float) -> float:
    return 1.0 if predicted <= 0 else min(_LARGEST, max(1 / _LARGEST, measured / predicted))
