"""`Channels`: what a criterion may look at to put a block's FFN channels in order.

A channel is row i of gate and up and column i of down; h is down's input, W down's weight.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from edgeprune.calibrate.statistics import CalibrationStats, input_key
from edgeprune.errors import CalibrationError
from edgeprune.schema.model import site_name

__all__ = ["Channels", "channels_of", "damped"]

_DAMPING = 1e-4
"""Share of the mean second moment added to the diagonal, so that channels that never fire stay invertible."""


@dataclass(frozen=True, kw_only=True)
class Channels:
    """One block's channels, float64; all that is measured is measured on the domain's text."""

    weight: Tensor
    """[out, in] of down."""
    gram: Tensor
    """[in, in], mean over tokens of h h^T."""
    mean: Tensor
    """[in], mean over tokens of h."""
    has_bias: bool
    """Whether down has a bias, which takes over the constant part of any error."""
    input_absolute: Tensor | None = None
    """[in], mean over tokens of |h|; None where it was not measured."""
    row_absolute: tuple[Tensor, ...] = ()
    """For each of gate and up, as far as the block has them: [in], the smaller of mean |y| and mean |y - b| of every
    row; none where it was not measured."""


def channels_of(stats: CalibrationStats, block: int, down_weight: Tensor, *, has_bias: bool = False) -> Channels:
    """What `stats` know of a block's channels.

    Raises:
        CalibrationError: the weight is not as wide as what was measured.
    """
    key = input_key(site_name(block, "down"))
    if down_weight.shape[1] != len(stats.mean[key]):
        raise CalibrationError(
            f"The statistics of block {block} are of {len(stats.mean[key])} channels, the model has "
            f"{down_weight.shape[1]}; calibrate this model again."
        )
    rows = [stats.row_absolute.get(site_name(block, role)) for role in ("gate", "up")]
    return Channels(
        weight=down_weight.detach().double(),
        gram=stats.gram[key],
        mean=stats.mean[key],
        has_bias=has_bias,
        input_absolute=stats.mean_absolute.get(key),
        row_absolute=tuple(row for row in rows if row is not None),
    )


def damped(channels: Channels) -> Tensor:
    """[in, in] second moment of h, around its mean where down has a bias, with a little on the diagonal."""
    S = channels.gram
    if channels.has_bias:
        S = S - channels.mean.outer(channels.mean)
    damping = max(float(S.diagonal().mean()) * _DAMPING, torch.finfo(torch.float64).tiny)
    return S + damping * torch.eye(len(S), dtype=torch.float64)
