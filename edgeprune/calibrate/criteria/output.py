"""`output`: backward elimination by the error of the output, a sixteenth of the channels at a time.

The score is that of optimal brain surgeon (`edgeprune.calibrate.criteria.obs`), the exact loss of removing one more
channel, s_j = ||W'_j||^2 / [S_KK^-1]_jj with W' the compensated columns, taken anew after every sixteenth.
"""

import torch
from torch import Tensor

from edgeprune.calibrate.criteria.inputs import Channels, damped

__all__ = ["order"]

_ROUNDS = 16


def order(channels: Channels) -> Tensor:
    """[in] int64, channels to keep first."""
    W, S = channels.weight, damped(channels)
    kept = torch.arange(S.shape[0])
    removed: list[Tensor] = []
    step = -(-len(kept) // _ROUNDS)
    while len(kept) > step:
        S_kept = S[kept][:, kept]
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(S_kept))
        compensated = W @ S[:, kept] @ inverse
        scores = compensated.square().sum(dim=0) / inverse.diagonal()
        ranked = scores.argsort(descending=True, stable=True)
        removed.append(kept[ranked[-step:]])
        kept = kept[ranked[:-step].sort().values]
    return torch.cat([kept, *removed[::-1]])
