"""Expected loss of every rank of a site, for both truncations.

    lowrank   output covariance:  W S W^T = V diag(lambda) V^T,  loss(r) = sum_{i > r} lambda_i          (1)
                                                with R W for W where the gradients' second moment was measured
    laser     plain SVD:          W = U diag(sigma) V^T,  loss(r) = sum_{i > r} sigma_i^2 v_i^T S v_i    (2)

(1) Swift-SVD (arXiv 2604.01609) and SVD-LLM (arXiv 2403.07378): no matrix of rank r has a smaller output error.
(2) LASER (arXiv 2312.13558); exact, since the u_i are orthonormal. Both times output_weight / 2 are nats per token.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgeprune.calibrate.eigen import output_spectrum
from edgeprune.calibrate.output_weighting import output_root
from edgeprune.calibrate.site_weights import SiteWeight

__all__ = [
    "RANK_METHODS",
    "factored_weights",
    "general_rank_losses",
    "laser_losses",
    "loss_tails",
    "lowrank_losses",
    "rank_losses",
]

RANK_METHODS = ("lowrank", "laser")


def rank_losses(site: SiteWeight) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Method and [min(out, in) + 1] expected loss increase by kept rank, in nats per token."""
    lowrank = 0.5 * _scale(site) * lowrank_losses(site.weight, site.gram, site.output_gram)
    yield "lowrank", lowrank.numpy()
    yield "laser", 0.5 * site.output_weight * laser_losses(site.weight, site.gram).numpy()


def general_rank_losses(site: SiteWeight, general: SiteWeight) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """The same of the same factors, fitted to the domain, under the general text's moments.

    Both truncations drop mutually orthogonal parts of the weight's rows or columns, so their errors add up under any
    second moment: ||q_i^T W||^2 in S for (1), the general S in place of the domain's in (2).
    """
    roots = output_root(site.output_gram)
    W = site.weight.double() if roots is None else roots[0] @ site.weight.double()
    Q = output_spectrum(W, site.gram, min(W.shape)).directions
    M = W.T @ Q
    lowrank = loss_tails(((general.gram @ M) * M).sum(dim=0).clamp_min(0))
    # Gradients there are compared by their size alone: in another metric than the domain's the parts do not add up.
    relation = _scale(site) * (general.output_weight / site.output_weight if site.output_weight else 1.0)
    yield "lowrank", (0.5 * relation * lowrank).numpy()
    yield "laser", 0.5 * general.output_weight * laser_losses(site.weight, general.gram).numpy()


def lowrank_losses(weight: Tensor, gram: Tensor, output_gram: Tensor | None = None) -> Tensor:
    """[min(out, in) + 1] float64: output error left by the best factors of each rank, weighted by the Gram given."""
    roots = output_root(output_gram)
    weighted = weight if roots is None else roots[0] @ weight.double()
    return loss_tails(output_spectrum(weighted, gram, 0).values)  # eq. (1)


def laser_losses(weight: Tensor, gram: Tensor) -> Tensor:
    """[min(out, in) + 1] float64: output error left by plain SVD truncation to each rank."""
    _, sigma, V = torch.linalg.svd(weight.double(), full_matrices=False)
    return loss_tails(sigma.square() * ((V @ gram) * V).sum(dim=1).clamp_min(0))  # eq. (2)


def factored_weights(site: SiteWeight, rank: int, method: str) -> Tensor:
    """[out, in] float32: the product of the factors of that rank, to measure what it really costs."""
    W = site.weight.double()
    if method == "laser":
        U, sigma, V = torch.linalg.svd(W, full_matrices=False)
        return ((U[:, :rank] * sigma[:rank]) @ V[:rank]).float()
    roots = output_root(site.output_gram)
    weighted = W if roots is None else roots[0] @ W
    kept = output_spectrum(weighted, site.gram, rank).directions
    product = kept @ (kept.T @ weighted)
    return (product if roots is None else roots[1] @ product).float()


def _scale(site: SiteWeight) -> float:
    """What turns a weighted error into nats: the Gram of the gradients holds their size already."""
    known = site.output_gram is not None and float(site.output_gram.diagonal().sum()) > 0.0
    return 1.0 if known else site.output_weight


def loss_tails(values: Tensor) -> Tensor:
    """[n + 1] from [n]: sum of the entries from each index on; a last entry of 0."""
    return torch.cat([values.flip(0).cumsum(0).flip(0), values.new_zeros(1)])
