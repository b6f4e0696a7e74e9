"""ASVD: plain SVD of a weight whose input channels are scaled by how large their activations are.

Takes a weight W [out, in], the mean magnitude of its input channels and a rank (arXiv 2312.05821, section 3; the
authors' code, as called with `--act_aware --alpha 0.5`):

    (1)  s_j = (mean |x_j|)^alpha + 1e-6
    (2)  W diag(s) = U diag(sigma) V^T
    (3)  left = U_r sigma_r^{1/2},  right = sigma_r^{1/2} V_r^T diag(s)^{-1}

A diagonal knows nothing of how channels go together, so on the same rank its output error is never below that of
`edgeprune.compress.ranks`; it is kept as a baseline.
"""

import torch
from torch import Tensor

from edgeprune.compress.ranks import Factors

__all__ = ["ALPHA", "factor_asvd"]

ALPHA = 0.5
"""The published default."""
_LEAST_SCALE = 1e-6


def factor_asvd(
    weight: Tensor, mean_absolute: Tensor, rank: int, *, bias: Tensor | None = None, alpha: float = ALPHA
) -> Factors:
    """Rank-`rank` factors; the singular values are shared evenly by both.

    Args:
        weight: [out, in], any float dtype.
        mean_absolute: [in] float64, mean over tokens of |x|.
        rank: singular values kept, below min(out, in).
        bias: [out], passed through.
        alpha: between 0, plain SVD, and 1.
    """
    scale = mean_absolute.double() ** alpha + _LEAST_SCALE  # eq. (1)
    U, sigma, V = torch.linalg.svd(weight.detach().double() * scale, full_matrices=False)  # eq. (2)
    root = sigma[:rank].sqrt()
    return Factors(
        right=root[:, None] * V[:rank] / scale,  # eq. (3)
        left=U[:, :rank] * root,
        bias=None if bias is None else bias.detach().double(),
    )
