"""Which FFN channels to keep, and the loss of keeping that many with least-squares compensation.

A channel is row i of gate and up and column i of down, so only down's input h matters, with S its second moment
(centred where down has a bias). With the columns K kept and the rest compensated exactly,

    loss(K) = tr(W S W^T) - tr(W S_:K S_KK^-1 S_K: W^T)                                            (1)

Ordered so that kept channels come first, S = L L^T (Cholesky) gives every nested K at once: with Z = L^T W^T,

    loss(first k channels) = sum_{i > k} ||Z_i||^2                                                  (2)

The order is a criterion's (`edgeprune.calibrate.criteria`). Scores go by `SCORED`, which removes one channel after the
other by exactly (1): on the blocks of a model with 704 channels its losses are at most those of a sixteenth at a time,
up to a third less in the first block, in no more time.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgeprune.calibrate.criteria.inputs import Channels, channels_of, damped
from edgeprune.calibrate.criteria.table import order_channels
from edgeprune.calibrate.statistics import CalibrationStats
from edgeprune.schema.recipe import ChannelCriterion

__all__ = [
    "ALIGNMENT",
    "SCORED",
    "channel_errors_on",
    "channel_losses",
    "channel_menu",
    "channel_order",
    "compensated_down",
    "nested_errors",
]

ALIGNMENT = 32
"""Kept counts are multiples of this: one quantisation block, and what kernels like."""
SCORED: ChannelCriterion = "obs"
"""Whose order the losses of the scores follow, and so the recipes of the search."""


def channel_menu(intermediate_size: int) -> tuple[int, ...]:
    """Kept counts to score: about eight multiples of 32 from a quarter of the channels to below all, ascending."""
    counts = {
        max(ALIGNMENT, round(intermediate_size * eighths / 8 / ALIGNMENT) * ALIGNMENT)
        for eighths in (2.0, 3.0, 4.0, 5.0, 6.0, 6.5, 7.0, 7.5)
    }
    return tuple(sorted(count for count in counts if count < intermediate_size))


def channel_order(
    stats: CalibrationStats,
    block: int,
    down_weight: Tensor,
    *,
    has_bias: bool = False,
    criterion: ChannelCriterion = "output",
) -> NDArray[np.int64]:
    """[in] channels of a block, those to keep first; the first k are what `KeepChannels(kept_count=k)` keeps.

    Raises:
        CalibrationError: the statistics lack what the criterion goes by, or are of another width.
    """
    return order_channels(criterion, channels_of(stats, block, down_weight, has_bias=has_bias)).numpy()


def channel_losses(
    stats: CalibrationStats, block: int, down_weight: Tensor, order: NDArray[np.int64], *, has_bias: bool = False
) -> NDArray[np.float64]:
    """[in + 1] output error tr(dW S dW^T) of keeping the first k channels of `order`, index = k."""
    channels = channels_of(stats, block, down_weight, has_bias=has_bias)
    return nested_errors(channels, torch.from_numpy(order)).numpy()


def nested_errors(channels: Channels, order: Tensor, *, compensate: bool = True) -> Tensor:
    """[in + 1] float64: output error of keeping the first k channels of `order`, index = k.

    Without compensation the error is that of the columns that leave, tr(W_D S_DD W_D^T), a bias left as it was.
    """
    if compensate:
        S = damped(channels)[order][:, order]
        Z = torch.linalg.cholesky(S).T @ channels.weight[:, order].T
        tails = Z.square().sum(dim=1).flip(0).cumsum(0).flip(0)  # eq. (2)
    else:
        shares = (channels.weight.T @ channels.weight * channels.gram)[order][:, order]
        tails = shares.flip(0, 1).cumsum(0).cumsum(1).diagonal().flip(0)
    return torch.cat([tails, tails.new_zeros(1)])


def channel_errors_on(
    stats: CalibrationStats,
    block: int,
    down_weight: Tensor,
    order: NDArray[np.int64],
    counts: Sequence[int],
    moment: Tensor,
    *,
    has_bias: bool = False,
) -> NDArray[np.float64]:
    """[len(counts)] output error of keeping the first so many channels, compensated as on `stats`, under another S."""
    W = down_weight.double()
    errors = []
    for count in counts:
        kept = torch.from_numpy(np.sort(order[:count]))
        change = compensated_down(stats, block, down_weight, kept, has_bias=has_bias).double() - W
        errors.append(float(((change @ moment) * change).sum()))
    return np.array(errors)


def compensated_down(
    stats: CalibrationStats, block: int, down_weight: Tensor, kept: Tensor, *, has_bias: bool = False
) -> Tensor:
    """[out, in] float32: down with the columns that are not kept at zero and the others compensated."""
    S = damped(channels_of(stats, block, down_weight, has_bias=has_bias))
    W = down_weight.double()
    narrowed = torch.zeros_like(W)
    narrowed[:, kept] = torch.linalg.solve(S[kept][:, kept], S[kept] @ W.T).T
    return narrowed.float()
