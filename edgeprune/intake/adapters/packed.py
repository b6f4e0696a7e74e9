"""Matrices that a checkpoint stores packed, as the sites they hold.

The module takes the place of the one linear layer and gives the same output, so the attention or MLP around it stays
transformers' own; its children are the sites, each with its own matrix, rank, width and bias.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from edgeprune.schema.model import SiteRole

__all__ = ["PackedSites", "rows_of"]


class PackedSites(nn.Module):
    """Several sites in the place of one matrix, one after the other or head by head."""

    def __init__(self, sites: Mapping[SiteRole, nn.Module], *, head_dim: int | None = None) -> None:
        """Take the sites in the order of their rows; with `head_dim` each head's rows of all sites stand together."""
        super().__init__()
        self.head_dim = head_dim
        for role, site in sites.items():
            self.add_module(role, site)

    def forward(self, hidden: Tensor) -> Tensor:
        """[..., in] -> [..., sum of out]."""
        outputs = [site(hidden) for site in self.children()]
        if self.head_dim is None:
            return torch.cat(outputs, dim=-1)
        return torch.cat([output.unflatten(-1, (-1, self.head_dim)) for output in outputs], dim=-1).flatten(-2)


def rows_of(linear: nn.Linear, rows: Tensor) -> nn.Linear:
    """A linear layer of some rows [n] int64 of another, with storage of its own."""
    with torch.device("meta"):
        taken = nn.Linear(linear.in_features, len(rows), bias=linear.bias is not None)
    taken.weight = nn.Parameter(linear.weight.detach()[rows])
    if linear.bias is not None:
        taken.bias = nn.Parameter(linear.bias.detach()[rows])
    return taken
