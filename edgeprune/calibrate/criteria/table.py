"""The table of criteria: name -> order."""

from collections.abc import Callable, Mapping
from typing import get_args

from torch import Tensor

from edgeprune.calibrate.criteria import contextual, flap, obs, output, wanda
from edgeprune.calibrate.criteria.inputs import Channels
from edgeprune.schema.recipe import ChannelCriterion

__all__ = ["order_channels"]

_ORDERS: Mapping[ChannelCriterion, Callable[[Channels], Tensor]] = {
    "output": output.order,
    "contextual": contextual.order,
    "flap": flap.order,
    "wanda": wanda.order,
    "obs": obs.order,
}
assert set(_ORDERS) == set(get_args(ChannelCriterion))


def order_channels(criterion: ChannelCriterion, channels: Channels) -> Tensor:
    """[in] int64, channels to keep first.

    Raises:
        CalibrationError: the statistics lack what the criterion goes by.
    """
    return _ORDERS[criterion](channels)
