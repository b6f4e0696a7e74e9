"""`contextual`: how strongly a channel is active on the domain (Mini-GPTs, arXiv 2312.12682), sliced instead of zeroed.

The published code zeroes, wherever a mean over tokens is at most a threshold,

    the column j of a linear layer          a_j = mean |x_j|                                         (1)
    its row i                               min(mean |y_i|, mean |y_i - b_i|)                         (2)
    the row i of the layer before a GELU    h_i = mean |act_i|                                       (3)

A channel does nothing once its column of down or its row of gate or up is zero, so with one threshold for all three it
leaves when the smallest of them is at most the threshold, and the smallest is its score. (3) is (1) where the MLP is
not gated; the published code hooks no gated activation, so it adds nothing there. The threshold is absolute and the
same for every layer; here the number of channels to keep takes its place, and the order it induces stays.
"""

import torch
from torch import Tensor

from edgeprune.calibrate.criteria.inputs import Channels
from edgeprune.errors import CalibrationError

__all__ = ["order", "scores"]


def scores(channels: Channels) -> Tensor:
    """[in] float64.

    Raises:
        CalibrationError: the statistics hold no mean absolute activations.
    """
    if channels.input_absolute is None or not channels.row_absolute:
        raise CalibrationError(
            "The statistics hold no mean absolute activations, which the criterion contextual goes by; calibrate this "
            "model again with this EdgePrune."
        )
    return torch.stack([channels.input_absolute, *channels.row_absolute]).amin(dim=0)  # eq. (1), (2), (3)


def order(channels: Channels) -> Tensor:
    """[in] int64, channels to keep first."""
    return scores(channels).argsort(descending=True, stable=True)
