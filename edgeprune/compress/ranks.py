"""Output-covariance low rank: the best rank-r stand-in for a matrix on the inputs it really sees.

Takes a weight W [out, in], the second moment S [in, in] of its inputs and a rank; gives two factors whose product
minimises tr((W - W') S (W - W')^T) over all matrices of that rank. The minimum is the sum of the eigenvalues left out,
which `edgeprune.calibrate.rank_scores` gives for every rank at once.

Sources: Swift-SVD (arXiv 2604.01609) for the output-covariance form, equal to the Cholesky-whitened one of SVD-LLM
(arXiv 2403.07378) without its inverse:

    (1)  W S W^T = V diag(lambda) V^T,  lambda descending
    (2)  left = V_r,  right = V_r^T W
    (3)  from the side of the inputs where out > in, see `edgeprune.calibrate.eigen`
    (4)  with a bias:  S <- S - mu mu^T,  b' = b + (W - W') mu
    (5)  balanced:  right = P diag(s) Q^T,  left <- left P s^{1/2},  right <- s^{1/2} Q^T
    (6)  with gradients known:  W <- R W before, left <- R^{-1} left after, see `edgeprune.calibrate.output_weighting`

Everything is computed in float64. Keeps true: left has rank columns even where the data excite fewer directions; those
are filled from what plain SVD would keep of the remainder, so unseen inputs are served too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edgeprune.calibrate.eigen import OutputSpectrum, output_spectrum
from edgeprune.calibrate.output_weighting import output_root

__all__ = ["Factors", "balance", "factor_lowrank"]

_NEGLIGIBLE = 1e-10
"""Eigenvalues below this share of the largest are noise: batches are multiplied in float32 (6e-8) and averaged."""


@dataclass(frozen=True, kw_only=True)
class Factors:
    """What replaces one weight matrix, all float64."""

    right: Tensor
    """[rank, in]; in the pivot form the pivot rows."""
    left: Tensor
    """[out, rank]; in the pivot form the coefficients [out - rank, rank]."""
    bias: Tensor | None
    """[out], or None where the site has none."""
    order: Tensor | None = None
    """[out] int64 in the pivot form, see `edgeprune.compress.pivoted`; None for two factors."""


def factor_lowrank(
    weight: Tensor,
    gram: Tensor,
    rank: int,
    *,
    mean: Tensor | None = None,
    bias: Tensor | None = None,
    is_balanced: bool = False,
    spectrum: OutputSpectrum | None = None,
    output_gram: Tensor | Sequence[Tensor | None] | None = None,
) -> Factors:
    """Best rank-`rank` factors of a weight under its inputs.

    Args:
        weight: [out, in], any float dtype.
        gram: [in, in] float64, mean over tokens of x x^T, uncentred.
        rank: directions kept, below min(out, in).
        mean: [in] float64, mean of x; used only together with `bias`.
        bias: [out]; where given, it takes over the part of the error that is constant over tokens.
        is_balanced: spread the singular values over both factors, for factors that will be rounded.
        spectrum: of this weight under the gram, centred where a bias is used, with at least `rank` directions; found
            here when None.
        output_gram: [out, out] float64, second moment of the loss's gradient at the output; where given, the outputs'
            error is weighted by it, see `edgeprune.calibrate.output_weighting`. A spectrum given is of the weighted
            outputs then. Of sites one below the other, one each.

    Raises:
        torch.linalg.LinAlgError: values that are not finite.
    """
    W = weight.detach().double()
    uses_bias = bias is not None and mean is not None
    S = _centred(gram, mean) if uses_bias and mean is not None else gram.double()
    roots = output_root(output_gram)
    weighted = W if roots is None else roots.weigh(W)
    found = spectrum or output_spectrum(weighted, S, rank)
    known = min(rank, _significant_count(found.values))
    left, right = found.directions[:, :known], found.rows[:known]  # eq. (1), (2), (3)
    if known < rank:
        left = _complete(weighted, left, rank)
        right = left.T @ weighted  # eq. (2)
    if roots is not None:
        left = roots.unweigh(left)
    new_bias = None if bias is None else bias.detach().double()
    if uses_bias and new_bias is not None and mean is not None:
        mu = mean.double()
        new_bias = new_bias + W @ mu - left @ (right @ mu)  # eq. (4)
    if is_balanced:
        right, left = balance(right, left)
    return Factors(right=right, left=left, bias=new_bias)


def balance(right: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
    """Same product, singular values shared evenly: rounding then costs both factors alike."""
    P, s, Q = torch.linalg.svd(right, full_matrices=False)
    root = s.sqrt()
    return root[:, None] * Q, left @ P * root  # eq. (5)


def _centred(gram: Tensor, mean: Tensor) -> Tensor:
    mu = mean.double()
    return gram.double() - torch.outer(mu, mu)  # eq. (4)


def _significant_count(values: Tensor) -> int:
    largest = float(values.max())
    return int((values > _NEGLIGIBLE * largest).sum()) if largest > 0.0 else 0


def _complete(W: Tensor, V: Tensor, rank: int) -> Tensor:
    """Fill missing directions with the leading left singular vectors of what V leaves of W."""
    missing = rank - V.shape[1]
    remainder = W - V @ (V.T @ W)
    U, _, _ = torch.linalg.svd(remainder, full_matrices=False)
    filled, _ = torch.linalg.qr(torch.cat([V, U[:, :missing]], dim=1))
    return filled
