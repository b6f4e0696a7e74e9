"""Key-value groups by the published criteria of channels: what a group's columns of o score, and their mean.

A group is the columns of o that its query heads feed. FLAP (arXiv 2312.11983; the authors' code, `lib/prune.py`)
squares the fluctuation of attention's columns, standardises it over the block and takes the mean over a head;
structured Wanda (the same code) takes the mean of its own scores. Neither says how groups stand in for one another, as
`obs` does.
"""

from collections.abc import Callable, Mapping

from torch import Tensor

from edgeprune.calibrate.criteria import flap, wanda
from edgeprune.calibrate.criteria.inputs import Channels
from edgeprune.calibrate.statistics import CalibrationStats
from edgeprune.schema.recipe import GroupCriterion

__all__ = ["group_scores", "output_channels"]


def output_channels(stats: CalibrationStats, block: int, weight: Tensor, *, has_bias: bool = False) -> Channels:
    """What `stats` know of the columns of o [out, in] of a block."""
    key = f"blocks.{block}.attention_output"
    return Channels(weight=weight.detach().double(), gram=stats.gram[key], mean=stats.mean[key], has_bias=has_bias)


def group_scores(criterion: GroupCriterion, columns: Channels, group_count: int) -> Tensor:
    """[groups] float64: the mean over a group's columns; those of `flap` compare across blocks.

    Args:
        criterion: `flap` or `wanda`.
        columns: of o; in / group_count of them belong to each group, one group after the other.
        group_count: key-value groups.
    """
    return _SCORES[criterion](columns).unflatten(0, (group_count, -1)).mean(dim=1)


def _fluctuation(columns: Channels) -> Tensor:
    return flap.standardised(flap.scores(columns).square())


_SCORES: Mapping[GroupCriterion, Callable[[Channels], Tensor]] = {"flap": _fluctuation, "wanda": wanda.scores}
