"""`wanda`: mean size of a channel's weights in down times the norm of what they read (Wanda, arXiv 2306.11695).

    s_j = mean_i |W_ij| ||h_j||_2,   ||h_j||_2^2 = sum over tokens of h_j^2                            (1)

The structured form of the published code: every block keeps the same share, nothing is compensated, and a block's
inputs are measured after the blocks before it were pruned.
"""

from torch import Tensor

from edgeprune.calibrate.criteria.inputs import Channels

__all__ = ["order", "scores"]


def scores(channels: Channels) -> Tensor:
    """[in] float64, up to the number of tokens, which changes no order."""
    return channels.weight.abs().mean(dim=0) * channels.gram.diagonal().clamp(min=0.0).sqrt()  # eq. (1)


def order(channels: Channels) -> Tensor:
    """[in] int64, channels to keep first."""
    return scores(channels).argsort(descending=True, stable=True)
