"""`flap`: how much a channel fluctuates, times how strongly down reads it (FLAP, arXiv 2312.11983).

    WIFV_j = Var(h_j) ||W_:j||^2                                                                      (1)

The published code standardises the scores of a layer before layers are compared (`standardised`) and gives down a bias
that stands for the mean of what left, b <- b + W_D mu_D; the survivors stay as they were.
"""

import torch
from torch import Tensor

from edgeprune.calibrate.criteria.inputs import Channels

__all__ = ["order", "scores", "standardised"]


def scores(channels: Channels) -> Tensor:
    """[in] float64."""
    variance = (channels.gram.diagonal() - channels.mean.square()).clamp(min=0.0)
    return variance * channels.weight.square().sum(dim=0)  # eq. (1)


def order(channels: Channels) -> Tensor:
    """[in] int64, channels to keep first."""
    return scores(channels).argsort(descending=True, stable=True)


def standardised(values: Tensor) -> Tensor:
    """[in] scores of one block, mean 0 and standard deviation 1, to be compared with other blocks'; all 0 if equal."""
    spread = values.std()
    centred = values - values.mean()
    return centred / spread if float(spread) > 0.0 else torch.zeros_like(values)
