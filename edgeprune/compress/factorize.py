"""The rank pass: sites that the recipe gives a rank become two factors.

Takes statistics of the model as it is and, for each site, the rank and the method (`lowrank` or `laser`); puts a
`FactoredLinear` in place. Factors that will be rounded afterwards share their singular values evenly.

All sites are fitted to the statistics from before the pass. Fitting each block to the inputs its edited predecessors
give raises the held-out loss instead (by 0.02 and 0.03 nats on a 16-block model at 71 % and 62 % of the parameters): it
preserves what a drifted input gives, not what the dense model gave.
"""

from dataclasses import dataclass

import torch
from msgspec.structs import replace
from torch import nn

from edgeprune.calibrate.statistics import CalibrationStats, input_key
from edgeprune.compress.factored import FactoredLinear
from edgeprune.compress.laser import factor_laser
from edgeprune.compress.passes import Work, check_finite
from edgeprune.compress.ranks import Factors, factor_lowrank
from edgeprune.errors import ModelError
from edgeprune.schema.kernel import FLOAT32
from edgeprune.schema.recipe import Recipe, SiteEdit

__all__ = ["FactorSites"]


@dataclass(frozen=True)
class FactorSites:
    """The pass."""

    name: str = "ranks"
    reads_stats: bool = True
    changes_inputs: bool = True

    def part(self, applied: Recipe, recipe: Recipe) -> Recipe:
        """Adds ranks, kernels left for the last pass."""
        ranked = tuple(replace(edit, kernel=FLOAT32) for edit in recipe.sites if edit.rank is not None)
        return replace(applied, sites=ranked)

    def apply(self, work: Work, recipe: Recipe) -> None:
        """Factor the sites."""
        edits = {edit.name: edit for edit in recipe.sites if edit.rank is not None}
        adapter = work.loaded.adapter
        for block, spec in zip(adapter.blocks(work.loaded.model), work.loaded.spec.blocks, strict=True):
            work.progress.raise_if_cancelled()
            for site in spec.sites:
                edit = edits.get(site.name)
                if edit is not None:
                    module = adapter.site(block, site.role)
                    adapter.set_site(block, site.role, _factored(module, edit, work.stats))


def _factored(module: nn.Module, edit: SiteEdit, stats: CalibrationStats) -> FactoredLinear:
    assert isinstance(module, nn.Linear)
    assert edit.rank is not None
    key = input_key(edit.name)
    check_finite(f"The input statistics of {edit.name}", stats.gram[key])
    try:
        if edit.method == "laser":
            factors = factor_laser(module.weight, edit.rank, bias=module.bias)
        else:
            factors = factor_lowrank(
                module.weight,
                stats.gram[key],
                edit.rank,
                mean=stats.mean[key],
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
