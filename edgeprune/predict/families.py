"""What each family of pieces adds to the prediction of a bundle, without any correction.

Predictions are sums over pieces, so a family's part is the difference between a prediction with that family alone and
one with no family at all.
"""

from msgspec.structs import replace

from edgeprune.predict.corrected import FAMILIES
from edgeprune.predict.cost import CostModel
from edgeprune.predict.price import Price
from edgeprune.schema.budget import Workload
from edgeprune.schema.correction import CorrectedQuantity, CorrectionFactor, Corrections
from edgeprune.schema.device import DeviceProfile
from edgeprune.schema.model import ModelSpec

__all__ = ["predicted_parts"]


def predicted_parts(
    device: DeviceProfile, edited: ModelSpec, workload: Workload, quantity: CorrectedQuantity
) -> tuple[float, dict[str, float]] | None:
    """Prediction of a bundle's shapes, and family -> its part; None where the profile cannot predict the quantity.

    Time is in seconds, model memory in bytes.
    """
    plain = CostModel(replace(device, corrections=None), edited, workload)
    price = plain.edited_price(edited)
    share = plain.cached_fraction(price.working_set_bytes)
    is_loading = price.loading_memory.value > price.running_memory.value

    def value(of: Price) -> float | None:
        if quantity == "memory":
            return (of.loading_memory if is_loading else of.running_memory).value
        found = of.decode_s(share) if quantity == "decode" else of.prefill_s(share)
        return None if found is None else found.value

    whole = value(price)
    if whole is None or whole <= 0.0:
        return None

    def only(family: str | None) -> float:
        alone = CostModel(replace(device, corrections=_only(quantity, family)), edited, workload)
        return value(alone.edited_price(edited)) or 0.0

    nothing = only(None)
    parts = {family: only(family) - nothing for family in FAMILIES}
    return whole, {family: part for family, part in parts.items() if part > 1e-9 * whole}


def _only(quantity: CorrectedQuantity, kept: str | None) -> Corrections:
    factors = tuple(
        CorrectionFactor(
            quantity=quantity, family=family, value=1.0 if family == kept else 0.0, range_factor=1.0, count=0
        )
        for family in FAMILIES
    )
    return Corrections(factors=factors, residuals=(), updated_at="")
