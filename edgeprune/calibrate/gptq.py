"""Rounding a matrix with its inputs in view: each column's error is made up for by the columns after it.

Takes W [out, in], the second moment H of its inputs and an integer kernel; gives the matrix the kernel can store that
(greedily) makes the outputs' error small rather than the weights':

    tr((W - Q) H (W - Q)^T) -> least, column by column: Q_j = round(W_j) on the grid of its block,
    W_k <- W_k - (W_j - Q_j) / U_jj U_jk for every k > j,   H^-1 = U^T U, U upper triangular                    (1)

(Frantar et al. 2022, "GPTQ", arXiv 2210.17323, algorithm 1.) H is damped by a share of its mean diagonal. Columns go in
the order of falling H_jj, so that the ones that weigh most are rounded while all others can still make up for them; the
grids are therefore fixed before: for each block the scale, and its sign, of least error weighed by the diagonal of H
among shrunk and stretched copies of the nearest rounding's own.

U without an inverse: with rows and columns reversed, H = M M^T (Cholesky) gives H = R R^T with R upper triangular, and
U = R^-1. Float64 up to U, float32 after.
"""

from collections.abc import Sequence

import torch
from scipy.linalg import lapack
from torch import Tensor

from edgeprune.calibrate.one_thread import one_thread
from edgeprune.schema.kernel import Kernel, parse_kernel

__all__ = ["DAMPING", "feedback_costs", "gptq", "on_grid"]

DAMPING = 0.01
"""Share of the mean of H's diagonal that is added to it, as published."""

_SHARES = tuple(0.6 + 0.05 * step for step in range(12))
"""Scales tried, as shares of the one that just holds the block's largest value."""
_ROWS_AT_ONCE = 4096
"""Rows have nothing to do with each other; so many bound the temporaries of a vocabulary table."""
_COLUMNS_AT_ONCE = 128
"""Columns whose corrections of what is far away are added up and applied together."""


def gptq(weight: Tensor, gram: Tensor, kernel: str) -> Tensor:
    """The rounded matrix, [out, in] float32.

    Args:
        weight: [out, in] float32.
        gram: [in, in] float64, second moment of the inputs; inputs never seen have no say.
        kernel: an integer kernel.
    """
    parsed = parse_kernel(kernel)
    with one_thread():
        importance, order = _damped(gram)
        width = len(gram) if parsed.block_size is None else parsed.block_size
        U = _factor(gram, importance, order).float().flip((0, 1)).contiguous()
        found = torch.empty(weight.shape)
        for start in range(0, len(weight), _ROWS_AT_ONCE):
            W = weight.detach()[start : start + _ROWS_AT_ONCE].float()
            scales = _scales(W, importance.float(), parsed, width)
            found[start : start + _ROWS_AT_ONCE, order] = _columns(W[:, order], U, scales, order // width, parsed)
    return found


def feedback_costs(fitted: Tensor, grams: Sequence[Tensor]) -> list[Tensor]:
    """What a column's rounding errors are expected to cost once the columns after it made up for them.

    With r_j the errors of column j as it is rounded, which feedback leaves as large as they are without it,

        W - Q = r diag(U)^-1 U,  E tr((W - Q) G (W - Q)^T) = sum_j ||r_j||^2 c_j,  c_j = (U G U^T)_jj / U_jj^2   (2)

    (the tr(D) of Chee et al. 2023, "QuIP", arXiv 2307.13304, theorem 1, columns weighed one by one and G not
    necessarily the moment H that the feedback was fitted to). Without feedback c_j is G_jj.

    Args:
        fitted: [in, in] float64, the moment H that `gptq` is given.
        grams: [in, in] float64 each, moments G under which the error counts.

    Returns:
        [in] float64 for each of `grams`.
    """
    with one_thread():
        importance, order = _damped(fitted)
        U = _factor(fitted, importance, order).flip((0, 1))
        found = []
        for gram in grams:
            costs = torch.empty(len(U), dtype=torch.float64)
            costs[order] = ((U @ gram.double()[order][:, order]) * U).sum(dim=1) / U.diagonal().square()  # eq. (2)
            found.append(costs)
        return found


def on_grid(weight: Tensor, importance: Tensor, kernel: str) -> Tensor:
    """[out, in] float32: each weight at the nearest point of the grids that `gptq` fixes before it rounds.

    Args:
        weight: [out, in] float32.
        importance: [in], the diagonal of the inputs' second moment.
        kernel: an integer kernel.
    """
    parsed = parse_kernel(kernel)
    low, high = _range(parsed)
    width = weight.shape[1] if parsed.block_size is None else parsed.block_size
    found = torch.empty(weight.shape)
    for start in range(0, len(weight), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        W = weight.detach()[rows].float()
        scales = _scales(W, importance.float(), parsed, width).repeat_interleave(width, dim=1)[:, : W.shape[1]]
        found[rows] = _nearest(W, scales, low, high)
    return found


def _damped(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Diagonal of H [in] float64 and the order in which columns are rounded."""
    importance = gram.diagonal().double()
    level = float(importance.mean())
    importance = importance + DAMPING * (level if level > 0.0 else 1.0)
    return importance, torch.argsort(importance, descending=True, stable=True)


def _factor(gram: Tensor, importance: Tensor, order: Tensor) -> Tensor:
    """[n, n] float64, U of H^-1 = U^T U with its rows and columns reversed, columns of H in an order.

    One copy of H is held, which LAPACK turns into M and then into its inverse: of 11,008 inputs it takes 970 MB.
    """
    back = order.flip(0)
    H = gram.double()[back[:, None], back]
    H.diagonal().copy_(importance[back])
    # The transpose of a symmetric matrix is the same one, in the order in which Fortran wants it.
    M, failed = lapack.dpotrf(H.numpy().T, lower=1, clean=1, overwrite_a=1)
    if not failed:
        M, failed = lapack.dtrtri(M, lower=1, overwrite_c=1)
    if failed:
        raise torch.linalg.LinAlgError("the second moment is not positive definite")  # type: ignore[attr-defined]
    return torch.from_numpy(M)


def _range(kernel: Kernel) -> tuple[int, int]:
    high = 2 ** (kernel.bits - 1) - 1
    return (-high if kernel.kind == "dynamic_int8" else -high - 1), high


def _scales(W: Tensor, importance: Tensor, kernel: Kernel, width: int) -> Tensor:
    """[out, blocks] float32, of least weighted error among those tried; 0 for blocks of zeros."""
    low, high = _range(kernel)
    found = []
    for start in range(0, W.shape[1], width):
        block, weigh = W[:, start : start + width], importance[start : start + width]
        most, least = block.amax(dim=1), block.amin(dim=1)
        extreme = torch.where(most.abs() > least.abs(), most, least)
        # As the nearest rounding has it, the largest value falls on the end of the range that has one integer more.
        base = extreme.abs() / high if low == -high else extreme / low
        best, lowest = base, _error(block, base, weigh, low, high)
        for share in _SHARES:
            for sign in (1.0, -1.0) if low != -high else (1.0,):
                tried = base * (share * sign)
                error = _error(block, tried, weigh, low, high)
                best = torch.where(error < lowest, tried, best)
                lowest = torch.minimum(error, lowest)
        found.append(best)
    return torch.stack(found, dim=1)


def _error(block: Tensor, scale: Tensor, weigh: Tensor, low: int, high: int) -> Tensor:
    return ((block - _nearest(block, scale[:, None], low, high)).square() * weigh).sum(dim=1)


def _nearest(values: Tensor, scale: Tensor, low: int, high: int) -> Tensor:
    steps = torch.where(scale != 0.0, values / scale, torch.zeros_like(values))
    return steps.round().clamp(low, high) * scale


def _columns(W: Tensor, U: Tensor, scales: Tensor, blocks: Tensor, kernel: Kernel) -> Tensor:
    """Round the columns in order; `blocks` [in] says whose scale each takes. `W` is used up."""
    low, high = _range(kernel)
    count = W.shape[1]
    rounded = torch.empty_like(W)
    for start in range(0, count, _COLUMNS_AT_ONCE):
        end = min(start + _COLUMNS_AT_ONCE, count)
        # Columns as rows: each step then works on memory that lies together.
        near = W[:, start:end].T.contiguous()
        errors = torch.empty_like(near)
        for at in range(end - start):
            j = start + at
            chosen = _nearest(near[at], scales[:, blocks[j]], low, high)
            rounded[:, j] = chosen
            errors[at] = (near[at] - chosen) / U[j, j]
            near[at + 1 :] -= U[j, j + 1 : end, None] * errors[at]  # eq. (1)
        W[:, end:] -= errors.T @ U[start:end, end:]  # eq. (1)
    return rounded
