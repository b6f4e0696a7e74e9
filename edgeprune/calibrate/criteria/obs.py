"""`obs`: greedy backward elimination by optimal brain surgeon, one channel after the other.

With S = mean over tokens of h h^T (around the mean where down has a bias), H = S^-1 over the channels K still kept and
W' the compensated columns, removing channel q adds exactly

    s_q = ||W'_q||^2 / H_qq                                                                          (1)

to the output's squared error, and afterwards

    W' <- W' - W'_q H_q: / H_qq,    H <- H - H_:q H_q: / H_qq                                          (2)

Source: Hassibi and Stork 1993; in this form SlimGPT (arXiv 2412.18110). The updates (2) are made for 32 channels at
once, as GPTQ does (arXiv 2210.17323): between, only the column of H and of W' that leaves is computed, and the scores
follow it. That makes one by one as fast as sixteen rounds that invert anew. Float64.
"""

import torch
from torch import Tensor

from edgeprune.calibrate.criteria.inputs import Channels, damped

__all__ = ["order"]

_AT_ONCE = 32
_SMALLEST = 1e-300


def order(channels: Channels) -> Tensor:
    """[in] int64, channels to keep first: the reverse of the order in which they left."""
    W = channels.weight.clone()
    H = torch.cholesky_inverse(torch.linalg.cholesky(damped(channels)))
    alive = torch.arange(W.shape[1])
    left: list[Tensor] = []
    while len(alive):
        gone, rows, columns = _leave(W, H, min(_AT_ONCE, len(alive)))
        left.append(alive[gone])
        stays = torch.ones(len(alive), dtype=torch.bool)
        stays[gone] = False
        alive = alive[stays]
        W = W[:, stays] - columns @ rows[stays].T  # eq. (2)
        H = H[stays][:, stays] - rows[stays] @ rows[stays].T  # eq. (2)
    return torch.cat(left).flip(0)


def _leave(W: Tensor, H: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The next channels to leave [count], and the factors [in, count], [out, count] of what that does to H and W."""
    rows = torch.zeros(H.shape[0], count, dtype=H.dtype)
    columns = torch.zeros(W.shape[0], count, dtype=W.dtype)
    diagonal, norms = H.diagonal().clone(), W.square().sum(dim=0)
    gone = torch.zeros(count, dtype=torch.int64)
    is_gone = torch.zeros(H.shape[0], dtype=torch.bool)
    for step in range(count):
        scores = norms / diagonal.clamp(min=_SMALLEST)  # eq. (1)
        scores[is_gone] = torch.inf
        q = int(scores.argmin())
        gone[step] = q
        is_gone[q] = True
        root = diagonal[q].clamp(min=_SMALLEST).sqrt()
        row = (H[:, q] - rows[:, :step] @ rows[q, :step]) / root
        column = (W[:, q] - columns[:, :step] @ rows[q, :step]) / root
        inner = column @ W - rows[:, :step] @ (column @ columns[:, :step])
        norms = (norms - 2.0 * row * inner + row.square() * column.square().sum()).clamp(min=0.0)
        diagonal = diagonal - row.square()
        rows[:, step], columns[:, step] = row, column
    return gone, rows, columns
