"""LASER's interventions: one site truncated to one rank by plain SVD, and the grid of them.

An intervention is (tau, l, rho): the kind of matrix, the block, and the share of the full rank that stays (arXiv
2312.13558, section 4): r = floor(rho * min(out, in)). The paper's table 5 searches U_in and U_out over all blocks; the
shares are the union of that table and the sweep of the authors' code. U_in is the gate of a gated MLP, as their code
for Llama has it, and U_out its down projection.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from edgeprune.errors import UsageError
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.laser import LaserPrior
from edgeprune.schema.model import ModelSpec, SiteRole

__all__ = ["PUBLISHED_FRACTIONS", "Intervention", "Spectra", "published_grid"]

PUBLISHED_FRACTIONS = (0.9, 0.8, 0.6, 0.4, 0.2, 0.1, 0.05, 0.01, 0.005)
"""Shares of the full rank that stay."""


@dataclass(frozen=True, order=True)
class Intervention:
    """One site at one rank."""

    block: int
    role: SiteRole
    rank: int
    fraction: float
    prior: LaserPrior | None = field(default=None, compare=False)
    """What proposed it; None where nothing did."""

    @property
    def site(self) -> str:
        """Name of the site."""
        return f"blocks.{self.block}.{self.role}"


def published_grid(
    spec: ModelSpec,
    *,
    roles: Sequence[SiteRole] | None = None,
    fractions: Sequence[float] = PUBLISHED_FRACTIONS,
) -> list[Intervention]:
    """Every role x block x fraction, from the last block down; fractions that come to one rank appear once.

    Args:
        spec: shapes of the model.
        roles: None takes U_in and U_out.
        fractions: of the full rank; at least rank 1 stays.

    Raises:
        UsageError: a role that no block has.
    """
    wanted = tuple(roles) if roles is not None else _mlp_roles(spec)
    present = {site.role for block in spec.blocks for site in block.sites}
    for role in wanted:
        if role not in present:
            raise UsageError(f"This model has no site {role}; it has {', '.join(sorted(present))}.")
    grid = []
    for block in reversed(spec.blocks):
        for site in block.sites:
            if site.role not in wanted:
                continue
            full = min(site.in_features, site.out_features)
            ranks: dict[int, float] = {}
            for fraction in fractions:
                rank = max(1, int(fraction * full))
                if rank < full:
                    ranks.setdefault(rank, fraction)
            grid += [Intervention(block.index, site.role, rank, fraction) for rank, fraction in ranks.items()]
    return grid


def _mlp_roles(spec: ModelSpec) -> tuple[SiteRole, ...]:
    present = {site.role for block in spec.blocks for site in block.sites}
    return ("gate", "down") if "gate" in present else ("up", "down")


class Spectra:
    """Singular value decompositions of the sites that are asked for, each made once."""

    def __init__(self, loaded: LoadedModel) -> None:
        """Decompose nothing yet."""
        self._loaded = loaded
        self._known: dict[str, tuple[Tensor, Tensor, Tensor]] = {}

    def of(self, site: str) -> tuple[Tensor, Tensor, Tensor]:
        """U [out, k], sigma [k] descending and V^T [k, in] of a site's weight, float64."""
        if site not in self._known:
            W = self.module(site).weight.detach().double()
            self._known[site] = tuple(torch.linalg.svd(W, full_matrices=False))
        return self._known[site]

    def truncated(self, intervention: Intervention) -> Tensor:
        """[out, in] float32: the weight at the intervention's rank."""
        U, sigma, V = self.of(intervention.site)
        rank = intervention.rank
        return ((U[:, :rank] * sigma[:rank]) @ V[:rank]).float()

    def module(self, site: str) -> nn.Linear:
        """The site's module in the model."""
        _, index, role = site.split(".")
        adapter = self._loaded.adapter
        block = adapter.blocks(self._loaded.model)[self._loaded.block_indices.index(int(index))]
        found = adapter.site(block, role)  # type: ignore[arg-type]
        assert isinstance(found, nn.Linear)
        return found
