"""Which key-value groups a block's attention keeps, and the loss of keeping that many.

A group is one key and one value head with the query heads that read it; where every query head has its own, each head
is a group. What leaves with a group are its columns of o, so only o's input matters, with S its second moment (centred
where o has a bias). With the columns K kept and W' = W S_:K P, P = S_KK^-1, removing one more group g and compensating
exactly adds

    cost(g) = tr(W'_g (P_gg)^-1 W'_g^T)                                                             (1)

and leaves (the block form of optimal brain surgeon, as SlimGPT, arXiv 2412.18110, uses it for heads)

    W' <- W' - W'_g (P_gg)^-1 P_g:,   P <- P - P_:g (P_gg)^-1 P_g:                                  (2)

The cheapest group leaves each time. Costs are exact increments, so their running sum is the output error of every
count at once, in float64.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgeprune.calibrate.statistics import CalibrationStats

__all__ = [
    "GroupOrder",
    "compensated_output",
    "group_columns",
    "group_errors_on",
    "group_menu",
    "group_order",
    "output_moment",
]

_LARGEST_MENU = 4
_DAMPING = 1e-4
"""Share of the mean second moment added to the diagonal, so that heads that never speak stay invertible."""


class GroupOrder(NamedTuple):
    """Groups of one block in the order in which they should be kept."""

    groups: NDArray[np.int64]
    """[groups] those to keep first; the first k are what `KeepGroups(kept_count=k)` keeps."""
    errors: NDArray[np.float64]
    """[groups + 1] output error tr(dW S dW^T) of keeping the first k, compensated; index = k, the last is 0."""


def group_menu(group_count: int) -> tuple[int, ...]:
    """Kept counts to score: all below the whole, or four of them from a quarter to seven eighths, ascending.

    Each one puts the sites of the attention on a search's menu once more.
    """
    if group_count <= _LARGEST_MENU + 1:
        return tuple(range(1, group_count))
    return tuple(sorted({round(group_count * eighths / 8) for eighths in (2, 4, 6, 7)}))


def group_columns(groups: Tensor, width: int) -> Tensor:
    """[len(groups) * width] int64: the columns of o that belong to these groups, ascending where the groups are."""
    return (groups[:, None] * width + torch.arange(width)).flatten()


def output_moment(stats: CalibrationStats, block: int, *, has_bias: bool) -> Tensor:
    """[in, in] float64 of o's input, centred where o has a bias, a ten-thousandth of its mean on the diagonal."""
    key = f"blocks.{block}.attention_output"
    S = stats.gram[key]
    if has_bias:
        S = S - stats.mean[key].outer(stats.mean[key])
    damping = max(float(S.diagonal().mean()) * _DAMPING, torch.finfo(torch.float64).tiny)
    return S + damping * torch.eye(len(S), dtype=torch.float64)


def group_order(weight: Tensor, moment: Tensor, group_count: int) -> GroupOrder:
    """Eliminate groups one by one, the cheapest first.

    Args:
        weight: [out, in] of o.
        moment: [in, in] float64, positive definite, from `output_moment`.
        group_count: key-value groups; in / group_count columns belong to each, one group after the other.
    """
    compensated = weight.detach().double()
    error = float(((compensated @ moment) * compensated).sum())
    P = torch.cholesky_inverse(torch.linalg.cholesky(moment))
    width = weight.shape[1] // group_count
    kept = list(range(group_count))
    removed: list[int] = []
    costs: list[float] = []
    while len(kept) > 1:
        W = compensated.unflatten(1, (-1, width)).transpose(0, 1)  # [kept, out, width]
        P_own = torch.stack([P[at : at + width, at : at + width] for at in range(0, len(P), width)])
        solved = torch.linalg.solve(P_own, W.transpose(1, 2))  # [kept, width, out]
        every = (solved * W.transpose(1, 2)).sum(dim=(1, 2))  # eq. (1)
        cheapest = int(every.argmin())
        costs.append(max(0.0, float(every[cheapest])))
        removed.append(kept.pop(cheapest))
        own = slice(cheapest * width, (cheapest + 1) * width)
        rest = torch.ones(len(P), dtype=torch.bool)
        rest[own] = False
        compensated = compensated[:, rest] - solved[cheapest].T @ P[own][:, rest]  # eq. (2)
        P = P[rest][:, rest] - P[rest][:, own] @ torch.linalg.solve(P[own, own], P[own][:, rest])  # eq. (2)
    # Keeping the last group costs all removals before; keeping none costs the whole output.
    errors = [0.0, *np.cumsum(costs).tolist(), error]
    return GroupOrder(np.array([*kept, *removed[::-1]], dtype=np.int64), np.array(errors[::-1]))


def compensated_output(weight: Tensor, moment: Tensor, kept_columns: Tensor) -> Tensor:
    """[out, in] float32: o with the columns that are not kept at zero and the others compensated."""
    W = weight.detach().double()
    changed = torch.zeros_like(W)
    S = moment[kept_columns]
    changed[:, kept_columns] = torch.linalg.solve(S[:, kept_columns], S @ W.T).T
    return changed.float()


def group_errors_on(
    weight: Tensor, moment: Tensor, order: GroupOrder, counts: Sequence[int], elsewhere: Tensor
) -> NDArray[np.float64]:
    """[len(counts)] output error of keeping the first so many groups, compensated by `moment`, under another S."""
    W = weight.detach().double()
    width = weight.shape[1] // len(order.groups)
    errors = []
    for count in counts:
        kept = torch.from_numpy(np.sort(order.groups[:count]))
        change = compensated_output(weight, moment, group_columns(kept, width)).double() - W
        errors.append(float(((change @ elsewhere) * change).sum()))
    return np.array(errors)
