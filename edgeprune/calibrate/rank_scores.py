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

from edgeprune.calibrate.eigen import leading_eigenvectors, output_spectrum
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
    "rank_losses_on",
]

RANK_METHODS = ("lowrank", "laser")


def rank_losses(site: SiteWeight) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Method and [min(out, in) + 1] expected loss increase by kept rank, in nats per token."""
    yield "lowrank", _lowrank(site, lowrank_losses(site.weight, site.gram, site.output_gram))
    yield "laser", _laser(site, laser_losses(site.weight, site.gram))


def general_rank_losses(site: SiteWeight, general: SiteWeight) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """The same of the same factors, fitted to the domain, under the general text's moments."""
    for method, _, losses in rank_losses_on(site, general):
        yield method, losses


def rank_losses_on(
    site: SiteWeight, general: SiteWeight
) -> Iterator[tuple[str, NDArray[np.float64], NDArray[np.float64]]]:
    """Method, losses as `rank_losses` gives them, and those of the same factors under the general text's moments.

    Both truncations drop mutually orthogonal parts of the weight's rows or columns, so their errors add up under any
    second moment: ||q_i^T W||^2 in S for (1), the general S in place of the domain's in (2).
    """
    W = _weighted(site)
    spectrum = output_spectrum(W, site.gram, min(W.shape))
    there = loss_tails(_sizes(spectrum.rows, general.gram))
    # Gradients there are compared by their size alone: in another metric than the domain's the parts do not add up.
    relation = _scale(site) * (general.output_weight / site.output_weight if site.output_weight else 1.0)
    yield "lowrank", _lowrank(site, loss_tails(spectrum.values)), (0.5 * relation * there).numpy()
    rows = _plain_rows(site.weight)
    here, there = (loss_tails(_sizes(rows, gram)) for gram in (site.gram, general.gram))
    yield "laser", _laser(site, here), _laser(general, there)


def lowrank_losses(weight: Tensor, gram: Tensor, output_gram: Tensor | None = None) -> Tensor:
    """[min(out, in) + 1] float64: output error left by the best factors of each rank, weighted by the Gram given."""
    roots = output_root(output_gram)
    weighted = weight if roots is None else roots.weigh(weight.double())
    return loss_tails(output_spectrum(weighted, gram, 0).values)  # eq. (1)


def laser_losses(weight: Tensor, gram: Tensor) -> Tensor:
    """[min(out, in) + 1] float64: output error left by plain SVD truncation to each rank."""
    return loss_tails(_sizes(_plain_rows(weight), gram))  # eq. (2)


def factored_weights(site: SiteWeight, rank: int, method: str) -> Tensor:
    """[out, in] float32: the product of the factors of that rank, to measure what it really costs."""
    W = site.weight.double()
    if method == "laser":
        U, sigma, V = torch.linalg.svd(W, full_matrices=False)
        return ((U[:, :rank] * sigma[:rank]) @ V[:rank]).float()
    roots = output_root(site.output_gram)
    found = output_spectrum(W if roots is None else roots.weigh(W), site.gram, rank)
    left = found.directions if roots is None else roots.unweigh(found.directions)
    return (left @ found.rows).float()


def _weighted(site: SiteWeight) -> Tensor:
    """[out, in] float64 R W."""
    roots = output_root(site.output_gram)
    return site.weight.double() if roots is None else roots.weigh(site.weight.double())


def _plain_rows(weight: Tensor) -> Tensor:
    """[min(out, in), in] float64: sigma_i v_i^T, from the eigenvectors of the smaller of W W^T and W^T W."""
    W = weight.detach().double()
    is_tall = W.shape[0] > W.shape[1]
    square = W.T @ W if is_tall else W @ W.T
    values, vectors = leading_eigenvectors(square.numpy(), len(square))
    basis = torch.from_numpy(np.ascontiguousarray(vectors))
    if not is_tall:
        return basis.T @ W
    return basis.T * torch.from_numpy(np.sqrt(np.maximum(values, 0.0)))[:, None]


def _sizes(rows: Tensor, gram: Tensor) -> Tensor:
    """[n] of rows [n, in]: each one's size under a second moment [in, in]."""
    return ((rows @ gram) * rows).sum(dim=1).clamp_min(0)


def _lowrank(site: SiteWeight, losses: Tensor) -> NDArray[np.float64]:
    return (0.5 * _scale(site) * losses).numpy()


def _laser(site: SiteWeight, losses: Tensor) -> NDArray[np.float64]:
    return (0.5 * site.output_weight * losses).numpy()


def _scale(site: SiteWeight) -> float:
    """What turns a weighted error into nats: the Gram of the gradients holds their size already."""
    known = site.output_gram is not None and float(site.output_gram.diagonal().sum()) > 0.0
    return 1.0 if known else site.output_weight


def loss_tails(values: Tensor) -> Tensor:
    """[n + 1] from [n]: sum of the entries from each index on; a last entry of 0."""
    return torch.cat([values.flip(0).cumsum(0).flip(0), values.new_zeros(1)])
