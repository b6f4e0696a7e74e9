"""The rank pass: sites that the recipe gives a rank become two factors.

Takes the calibration windows and, for each site, the rank and the method (`lowrank` or `laser`); puts a
`FactoredLinear` in place, block after block, each fitted to the inputs the edited blocks before it give. Factors that
will be rounded afterwards share their singular values evenly.
"""

from dataclasses import dataclass

import torch
from msgspec.structs import replace
from torch import nn

from edgeprune.calibrate.statistics import input_key
from edgeprune.compress.factored import FactoredLinear
from edgeprune.compress.laser import factor_laser
from edgeprune.compress.passes import Work, check_finite
from edgeprune.compress.propagate import HiddenStates, Moments
from edgeprune.compress.ranks import Factors, factor_lowrank
from edgeprune.errors import ModelError
from edgeprune.schema.kernel import FLOAT32
from edgeprune.schema.recipe import Recipe, SiteEdit

__all__ = ["FactorSites"]


@dataclass(frozen=True)
class FactorSites:
    """The pass."""

    name: str = "ranks"
    reads_stats: bool = False
    changes_inputs: bool = True

    def part(self, applied: Recipe, recipe: Recipe) -> Recipe:
        """Adds ranks, kernels left for the last pass."""
        ranked = tuple(replace(edit, kernel=FLOAT32) for edit in recipe.sites if edit.rank is not None)
        return replace(applied, sites=ranked)

    def apply(self, work: Work, recipe: Recipe) -> None:
        """Factor the sites."""
        edits = {edit.name: edit for edit in recipe.sites if edit.rank is not None}
        loaded = work.loaded
        edited = [
            position
            for position, block in enumerate(loaded.spec.blocks)
            if any(site.name in edits for site in block.sites)
        ]
        needs_inputs = any(edit.method != "laser" for edit in edits.values())
        states = HiddenStates(loaded, work.stats.tokens) if needs_inputs else None
        for position in range(max(edited) + 1):
            work.progress.raise_if_cancelled()
            block = loaded.adapter.blocks(loaded.model)[position]
            moments = states.moments(position) if states is not None and position in edited else {}
            for site in loaded.spec.blocks[position].sites:
                edit = edits.get(site.name)
                if edit is not None:
                    module = loaded.adapter.site(block, site.role)
                    factored = _factored(module, edit, moments.get(input_key(site.name)))
                    loaded.adapter.set_site(block, site.role, factored)
            if states is not None:
                states.advance(position)


def _factored(module: nn.Module, edit: SiteEdit, moments: Moments | None) -> FactoredLinear:
    assert isinstance(module, nn.Linear)
    assert edit.rank is not None
    try:
        if edit.method == "laser":
            factors = factor_laser(module.weight, edit.rank, bias=module.bias)
        else:
            assert moments is not None
            check_finite(f"The input statistics of {edit.name}", moments.gram)
            factors = factor_lowrank(
                module.weight,
                moments.gram,
                edit.rank,
                mean=moments.mean,
                bias=module.bias,
                is_balanced=edit.kernel != FLOAT32,
            )
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
        # LAPACK refuses NaN and infinity with "failed to converge".
        raise ModelError(
            f"{edit.name} cannot be factored ({error}); the model's weights or the calibration statistics are not "
            "finite, check the model or calibrate again."
        ) from error
    check_finite(edit.name, factors.right, factors.left, factors.bias)
    return _module(factors)


def _module(factors: Factors) -> FactoredLinear:
    return FactoredLinear(
        factors.right.float().contiguous(),
        factors.left.float().contiguous(),
        None if factors.bias is None else factors.bias.float(),
    )
