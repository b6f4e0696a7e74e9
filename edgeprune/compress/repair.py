"""Repairs of dropped depth in a model that is compressed: operators fitted before the parts go, and put in their place.

An operator stands on the input of the block after its run (`edgeprune.intake.adapters.repair`) as a `FactoredLinear`,
stored and counted like the factors of a site; `edgeprune.calibrate.repair` has the algorithm and its sources.
"""

from collections.abc import Mapping

from edgeprune.calibrate.repair import RepairFactors, fit_repairs
from edgeprune.compress.factored import FactoredLinear
from edgeprune.compress.passes import Work, check_finite
from edgeprune.intake.adapters.repair import set_repair
from edgeprune.schema.recipe import Drops

__all__ = ["attach_repairs", "fit_dropped"]


def fit_dropped(work: Work, drops: Drops) -> dict[int, RepairFactors]:
    """Operators for the runs of a model that is still whole, by the block their run begins in.

    Raises:
        CalibrationError: too little calibration text.
        ModelError: an operator is not finite.
    """
    if not drops.repairs:
        return {}
    found = fit_repairs(work.loaded, drops, work.stats.tokens, progress=work.progress)
    for block, factors in found.items():
        check_finite(f"The repair of block {block}", factors.right, factors.left, factors.intercept)
    return found


def attach_repairs(work: Work, drops: Drops, found: Mapping[int, RepairFactors]) -> None:
    """Put the operators where their runs were; the parts are gone already, the spec still tells of them."""
    kept = [index for index in work.loaded.block_indices if index not in drops.blocks]
    blocks = work.loaded.adapter.blocks(work.loaded.model)
    for run in drops.runs:
        if run.block in found:
            factors = found[run.block]
            operator = FactoredLinear(factors.right.float(), factors.left.float(), factors.intercept.float())
            set_repair(blocks[kept.index(run.next_block)], operator)
