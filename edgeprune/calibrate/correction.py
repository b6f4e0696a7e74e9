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

    @property
    def factor(self) -> float:
        """What the family's losses are multiplied by, within a twentieth and twenty."""
        if self.predicted <= 0:
            return 1.0
        return min(_LARGEST, max(1 / _LARGEST, self.measured / self.predicted))

    @property
    def note(self) -> str:
        """One sentence for `Scores.notes`."""
        return (
            f"{self.family}: {self.edit} was predicted to add {self.predicted:.4f} nats a token and added "
            f"{self.measured:.4f} on selection text, a factor of {self.factor:.3f}."
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
) -> Correction:
    """Compare a prediction with what the sites' other weights [out, in] really cost."""
    with exchanged_sites(loaded, weights):
        measured = loss_increase(loaded, selection, progress=progress)
    return Correction(family=family, edit=edit, predicted=predicted, measured=measured)
