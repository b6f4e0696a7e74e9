"""Values and output projection as one matrix a head, of which as many directions stay as are of use.

Attention mixes the values of tokens and does nothing else to them, so head h of key-value group g gives W_O,h W_V,g x
of mixed tokens x: W_O,h W_V,g is one matrix of rank head_dim, and fewer numbers a head in between make both smaller
without a product more (MoDeGPT, arXiv 2408.09632, type III). With a_h what head h hands to W_O,h, and Q the second
moment of the gradients behind it, the directions of a group are those of

    G = sum_h E[a_h a_h^T] = L L^T,  M = sum_h W_O,h^T Q W_O,h = R^T R,  R L = U diag(sigma) V^T            (1)
    v' = (B^T v)_(1..r),  W_O,h' = (W_O,h B)_(., 1..r),  B = the orthonormal columns of L^-T V             (2)

sums over the query heads of the group. Where every query head has keys of its own, leaving out all but r directions
costs sum_(i > r) sigma_i^2, and nothing costs less; with several heads a group, all read the same directions. The
columns of W_O that stay take over from those that leave by least squares over all heads (`channels.compensate`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from edgeprune.calibrate.output_weighting import output_root
from edgeprune.compress.channels import compensate

__all__ = ["MergedValues", "first_of_heads", "merge_values", "merged_losses", "value_bases"]

_SMALLEST = 1e-10
"""Share of the largest eigenvalue of G below which a direction holds nothing."""


class MergedValues(NamedTuple):
    """Both sites, float64."""

    rows: Tensor
    """[groups * kept, in] of v."""
    rows_bias: Tensor | None
    """[groups * kept], or None."""
    columns: Tensor
    """[out, heads * kept] of o."""
    columns_bias: Tensor | None
    """[out], or None."""


def value_bases(
    output_weight: Tensor, gram: Tensor, *, head_count: int, group_count: int, output_gram: Tensor | None = None
) -> Tensor:
    """B of eq. (2) of each group, its columns the most useful first: [groups, head_dim, head_dim] float64.

    Args:
        output_weight: [out, heads * head_dim] of o.
        gram: [heads * head_dim, heads * head_dim] float64, second moment of its inputs.
        head_count: query heads; those of a group come one after the other.
        group_count: key-value groups.
        output_gram: [out, out] float64, of the gradients of its output; None weighs all outputs alike.

    Raises:
        torch.linalg.LinAlgError: values that are not finite.
    """
    W = _weighed(output_weight.double(), output_gram)
    heads = W.unflatten(1, (head_count, -1)).transpose(0, 1)
    weights = (heads.transpose(1, 2) @ heads).unflatten(0, (group_count, -1)).sum(dim=1)
    blocks = gram.double().unflatten(0, (head_count, -1)).unflatten(2, (head_count, -1))
    moments = blocks.diagonal(dim1=0, dim2=2).permute(2, 0, 1).unflatten(0, (group_count, -1)).sum(dim=1)
    return torch.stack([_basis(M, G) for M, G in zip(weights, moments, strict=True)])


def merge_values(
    value_weight: Tensor,
    value_bias: Tensor | None,
    output_weight: Tensor,
    output_bias: Tensor | None,
    *,
    bases: Tensor,
    kept: int,
    gram: Tensor,
    mean: Tensor,
) -> MergedValues:
    """Keep the first directions of every head.

    Args:
        value_weight: [groups * head_dim, in] of v.
        value_bias: [groups * head_dim], or None.
        output_weight: [out, heads * head_dim] of o.
        output_bias: [out], or None; takes over the mean of what leaves.
        bases: [groups, head_dim, head_dim] float64, as `value_bases` gives them.
        kept: directions of a head.
        gram: [heads * head_dim, heads * head_dim] float64, second moment of o's inputs.
        mean: [heads * head_dim] float64, their mean.

    Raises:
        torch.linalg.LinAlgError: values that are not finite.
    """
    group_count, head_dim, _ = bases.shape
    head_count = output_weight.shape[1] // head_dim
    values = torch.block_diag(*bases)
    outputs = torch.block_diag(*bases.repeat_interleave(head_count // group_count, dim=0))
    rows = first_of_heads(group_count, head_dim, kept)
    narrowed = compensate(
        output_weight.double() @ outputs,
        outputs.T @ gram @ outputs,
        first_of_heads(head_count, head_dim, kept),
        mean=outputs.T @ mean,
        bias=output_bias,
    )
    return MergedValues(
        rows=values[:, rows].T @ value_weight.double(),
        rows_bias=None if value_bias is None else values[:, rows].T @ value_bias.double(),
        columns=narrowed.weight,
        columns_bias=narrowed.bias,
    )


def merged_losses(
    output_weight: Tensor, gram: Tensor, counts: Sequence[int], *, bases: Tensor, output_gram: Tensor | None = None
) -> list[float]:
    """What o's outputs lose where so many directions of every head stay, as `lowrank_losses` weighs errors.

    Args:
        output_weight: [out, heads * head_dim] of o.
        gram: [heads * head_dim, heads * head_dim] float64; centred where o has a bias.
        counts: of directions kept of a head.
        bases: as `value_bases` gives them.
        output_gram: as `value_bases` takes it.
    """
    group_count, head_dim, _ = bases.shape
    head_count = output_weight.shape[1] // head_dim
    turn = torch.block_diag(*bases.repeat_interleave(head_count // group_count, dim=0))
    W, S = output_weight.double() @ turn, turn.T @ gram @ turn
    losses = []
    for kept in counts:
        places = first_of_heads(head_count, head_dim, kept)
        change = W.clone()
        change[:, places] -= compensate(W, S, places).weight
        change = _weighed(change, output_gram)
        losses.append(float(((change @ S) * change).sum().clamp_min(0.0)))
    return losses


def first_of_heads(head_count: int, head_dim: int, kept: int) -> Tensor:
    """[heads * kept] int64: places of the first `kept` numbers of every head among all."""
    return (torch.arange(head_count)[:, None] * head_dim + torch.arange(kept)).flatten()


def _weighed(weight: Tensor, output_gram: Tensor | None) -> Tensor:
    root = output_root(output_gram)
    return weight if root is None else root.weigh(weight)


def _basis(weights: Tensor, moment: Tensor) -> Tensor:
    """B of one group from M and G, [head_dim, head_dim] all three."""
    values, vectors = torch.linalg.eigh(moment)
    values = values.clamp_min(_SMALLEST * float(values[-1])).clamp_min(torch.finfo(values.dtype).tiny)
    scale, turn = torch.linalg.eigh(weights)
    R = turn * scale.clamp_min(0.0).sqrt() @ turn.T
    _, _, directions = torch.linalg.svd(R @ (vectors * values.sqrt()))  # eq. (1)
    basis, _ = torch.linalg.qr((vectors / values.sqrt()) @ directions.T)  # eq. (2)
    return basis
