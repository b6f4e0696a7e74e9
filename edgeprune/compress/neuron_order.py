"""Rows of the pivot form put in order for free where they are neurons of an MLP.

The neurons between gate, up and down may stand in any order: permute the rows of gate and up and the columns of down
alike, and the block computes the same. So where gate or up is in the pivot form, the neurons take the order in which
that form stores its rows, and neither needs a row order or the nodes that restore it. Where both are, the one of lower
rank chooses its pivots among the other's: one order then begins with the pivots of both.
"""

import torch
from torch import Tensor, nn

from edgeprune.compress.factored import FactoredLinear
from edgeprune.compress.passes import linear
from edgeprune.compress.pivoted import PivotedLinear, dominant_rows
from edgeprune.schema.model import NEURON_ROLES, SiteRole

__all__ = ["Mlp", "order_neurons"]

Mlp = dict[SiteRole, nn.Module]
"""The modules of gate (where there is one), up and down."""


def order_neurons(mlp: Mlp) -> tuple[Mlp, Tensor, SiteRole | None] | None:
    """The same MLP with its neurons in the order of its pivot forms; None where it has none.

    Returns:
        The modules to put in place; the old neuron of each new one, [neurons] int64; and the site whose pivots were
        chosen anew, with new coefficients, None where there is none.
    """
    pivoted = [(role, module) for role, module in mlp.items() if isinstance(module, PivotedLinear)]
    pivoted = sorted((pair for pair in pivoted if pair[0] in NEURON_ROLES), key=lambda pair: -pair[1].rank)
    if not pivoted:
        return None
    _, first = pivoted[0]
    neurons = _stored_rows(first)
    made: Mlp = {}
    again: SiteRole | None = None
    if len(pivoted) > 1:
        again, second = pivoted[1]
        rows, neurons, coefficients = _among(second, neurons, first.rank)
        made[again] = PivotedLinear(rows, coefficients, None, _taken(second.bias, neurons))
    for role, module in mlp.items():
        if role not in made:
            made[role] = _reordered(module, neurons) if role in NEURON_ROLES else _with_columns(module, neurons)
    return made, neurons, again


def _stored_rows(module: PivotedLinear) -> Tensor:
    """[out] int64: the row of the matrix at each place of the stored parts."""
    return torch.arange(module.out_features) if module.order is None else module.order.argsort()


def _among(module: PivotedLinear, neurons: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pivots of a form chosen among the first `count` neurons; rows, the neurons with them in front, coefficients."""
    rank = module.rank
    basis = torch.eye(rank, dtype=torch.float64)
    stacked = torch.cat([basis, module.left.detach().double()])
    by_row = torch.empty_like(stacked)
    by_row[_stored_rows(module)] = stacked  # the matrix by its old pivot rows, in its own order
    chosen = dominant_rows(torch.linalg.qr(by_row[neurons[:count]])[0]).sort().values
    is_chosen = torch.zeros(len(neurons), dtype=torch.bool)
    is_chosen[chosen] = True
    ordered = torch.cat([neurons[is_chosen], neurons[~is_chosen]])
    pivots = by_row[ordered[:rank]]
    rows = pivots @ module.right.detach().double()
    coefficients = torch.linalg.solve(pivots, by_row[ordered[rank:]], left=False)
    return rows.float(), ordered, coefficients.float()


def _reordered(module: nn.Module, neurons: Tensor) -> nn.Module:
    """A site with its outputs in another order."""
    if isinstance(module, PivotedLinear):
        # The first pivots stay pivots, though not in their old order among themselves.
        places = module.order if module.order is not None else torch.arange(module.out_features)
        at = places[neurons[: module.rank]]
        assert int(at.max()) < module.rank, "pivots stay in front"
        others = places[neurons[module.rank :]] - module.rank
        return PivotedLinear(
            module.right.detach()[at], module.left.detach()[others][:, at], None, _taken(module.bias, neurons)
        )
    if isinstance(module, FactoredLinear):
        return FactoredLinear(module.right.detach(), module.left.detach()[neurons], _taken(module.bias, neurons))
    assert isinstance(module, nn.Linear)
    return linear(module.weight.detach()[neurons], _taken(module.bias, neurons))


def _with_columns(module: nn.Module, neurons: Tensor) -> nn.Module:
    """A site with its inputs in another order."""
    if isinstance(module, FactoredLinear):
        return module.with_parameters(module.right.detach()[:, neurons].contiguous(), module.left.detach())
    assert isinstance(module, nn.Linear)
    return linear(module.weight.detach()[:, neurons], module.bias)


def _taken(bias: Tensor | None, neurons: Tensor) -> Tensor | None:
    return None if bias is None else bias.detach()[neurons]
