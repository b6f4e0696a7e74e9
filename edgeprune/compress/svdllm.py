"""SVD-LLM: SVD of a weight whitened by the Cholesky factor of its inputs' second moment.

Takes a weight W [out, in], the second moment S [in, in] of its inputs and a rank (arXiv 2403.07378, section 3.1):

    (1)  S = L L^T
    (2)  W L = U diag(sigma) V^T
    (3)  left = U_r sigma_r^{1/2},  right = sigma_r^{1/2} V_r^T L^{-1}

The product is the one `edgeprune.compress.ranks` finds without an inverse, as long as S is well conditioned. Where S is
not positive definite the authors' code lifts it by its lowest eigenvalue and 1e-6; here the second term is relative to
the mean diagonal, since S is a mean over tokens and theirs a sum: 1e-12 of it, ten times more until it is enough.
"""

import torch
from torch import Tensor

from edgeprune.compress.ranks import Factors

__all__ = ["factor_svdllm"]

_JITTER = 1e-12


def factor_svdllm(weight: Tensor, gram: Tensor, rank: int, *, bias: Tensor | None = None) -> Factors:
    """Rank-`rank` factors; the singular values are shared evenly by both.

    Args:
        weight: [out, in], any float dtype.
        gram: [in, in] float64, mean over tokens of x x^T, uncentred.
        rank: singular values kept, below min(out, in).
        bias: [out], passed through.
    """
    L = _whitening(gram.double())
    U, sigma, V = torch.linalg.svd(weight.detach().double() @ L, full_matrices=False)  # eq. (2)
    root = sigma[:rank].sqrt()
    scaled = root[:, None] * V[:rank]
    return Factors(
        right=torch.linalg.solve_triangular(L, scaled, upper=False, left=False),  # eq. (3)
        left=U[:, :rank] * root,
        bias=None if bias is None else bias.detach().double(),
    )


def _whitening(S: Tensor) -> Tensor:
    """[in, in] lower triangular L of eq. (1), of S lifted as little as it takes."""
    S = (S + S.T) / 2
    L, failed = torch.linalg.cholesky_ex(S)
    if not failed:
        return L
    lowest = max(0.0, -float(torch.linalg.eigvalsh(S)[0]))
    # A matrix of zeros, of a site that never saw an input, is lifted all the same.
    jitter = max(_JITTER * float(S.diagonal().mean()), torch.finfo(S.dtype).tiny ** 0.5)
    while failed:
        L, failed = torch.linalg.cholesky_ex(S + (lowest + jitter) * torch.eye(len(S), dtype=S.dtype))
        jitter *= 10.0
    return L
