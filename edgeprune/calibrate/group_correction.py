"""Losses of keeping fewer key-value groups, second-order predictions scaled by one edit that is really made.

Per block 0.5 * output_weight(o) * tr(dW S dW^T) for each count of `group_menu`, the order and the errors from
`edgeprune.calibrate.group_scores`. For the measured edit a quarter of all groups leaves, spread over the blocks: where
a block has two, every second block loses one. Sliced heads compute exactly what zeroed columns of o compute, so the
edit needs other weights of o alone.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from edgeprune.calibrate.correction import Correction, measure_correction
from edgeprune.calibrate.general_text import GeneralText
from edgeprune.calibrate.group_scores import (
    GroupOrder,
    compensated_output,
    group_columns,
    group_errors_on,
    group_menu,
    group_order,
    output_moment,
)
from edgeprune.calibrate.selection import Selection
from edgeprune.calibrate.site_weights import SiteWeight
from edgeprune.calibrate.statistics import CalibrationStats
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.events import Progress
from edgeprune.schema.scores import ScoreArrays

__all__ = ["FAMILY", "score_groups", "spread_counts"]

FAMILY = "group_loss"

_SHARE = 0.75
"""Share of the groups kept in the edit that corrects the losses."""


def score_groups(
    loaded: LoadedModel,
    stats: CalibrationStats,
    sites: Sequence[SiteWeight],
    arrays: ScoreArrays,
    selection: Selection,
    *,
    progress: Progress,
    general: GeneralText | None = None,
) -> tuple[tuple[tuple[int, ...], ...], list[Correction]]:
    """Fill `group_loss/<block>` in `arrays` and in `general`; gives the counts scored per block and what was measured.

    A block with one group has nothing to give up, and no counts.
    """
    outputs = {site.block: site for site in sites if site.name.endswith(".o")}
    blocks = loaded.spec.blocks
    edit = spread_counts([block.num_kv_heads for block in blocks])
    weights: dict[str, Tensor] = {}
    predicted = general_predicted = 0.0
    menus = []
    for block, kept_count in zip(blocks, edit, strict=True):
        progress.raise_if_cancelled()
        menu = group_menu(block.num_kv_heads)
        menus.append(menu)
        if not menu:
            continue
        site = outputs[block.index]
        moment = output_moment(stats, block.index, has_bias=_has_bias(loaded, block.index))
        order = group_order(site.weight, moment, block.num_kv_heads)
        losses = 0.5 * site.output_weight * order.errors
        arrays[f"{FAMILY}/{block.index}"] = losses[list(menu)]
        if kept_count < block.num_kv_heads:
            weights[site.name] = _zeroed(site.weight, moment, order, kept_count)
            predicted += float(losses[kept_count])
        if general is not None:
            there = general.sites[site.name]
            errors = group_errors_on(site.weight, moment, order, (*menu, kept_count), there.gram)
            expected = 0.5 * there.output_weight * errors
            general.arrays[f"{FAMILY}/{block.index}"] = expected[:-1]
            general_predicted += float(expected[-1])
    if not weights:
        return tuple(menus), []
    correction = measure_correction(
        loaded,
        selection,
        weights,
        family=FAMILY,
        edit=f"{_kept(edit, weights, loaded)} key-value groups kept in {_blocks(len(weights))}, compensated,",
        predicted=predicted,
        progress=progress,
        general=None if general is None else general.selection,
        general_predicted=None if general is None else general_predicted,
    )
    _scale(arrays, correction.factor)
    if general is not None:
        _scale(general.arrays, correction.general_factor)
    return tuple(menus), [correction]


def spread_counts(group_counts: Sequence[int]) -> list[int]:
    """Groups each block keeps when a quarter of them leaves, as evenly as whole groups allow; never the last one."""
    counts = []
    owed = 0.0
    for count in group_counts:
        owed += (1.0 - _SHARE) * count
        dropped = max(0, min(int(owed), count - 1))
        owed -= dropped
        counts.append(count - dropped)
    return counts


def _zeroed(weight: Tensor, moment: Tensor, order: GroupOrder, kept_count: int) -> Tensor:
    kept = torch.from_numpy(np.sort(order.groups[:kept_count]))
    return compensated_output(weight, moment, group_columns(kept, weight.shape[1] // len(order.groups)))


def _kept(edit: Sequence[int], weights: Mapping[str, Tensor], loaded: LoadedModel) -> str:
    """`1 of 2`, or a range where blocks differ."""
    shares = {
        f"{kept} of {block.num_kv_heads}"
        for block, kept in zip(loaded.spec.blocks, edit, strict=True)
        if f"blocks.{block.index}.o" in weights
    }
    return " or ".join(sorted(shares))


def _blocks(count: int) -> str:
    return "1 block" if count == 1 else f"{count} blocks"


def _scale(arrays: ScoreArrays, factor: float) -> None:
    for key in arrays:
        if key.startswith(f"{FAMILY}/"):
            arrays[key] = arrays[key] * factor


def _has_bias(loaded: LoadedModel, block: int) -> bool:
    position = loaded.block_indices.index(block)
    module = loaded.adapter.site(loaded.adapter.blocks(loaded.model)[position], "o")
    assert isinstance(module, nn.Linear)
    return module.bias is not None
