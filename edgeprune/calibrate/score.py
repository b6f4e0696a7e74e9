"""`score_model`: the loss of every edit the search may choose, predicted per site and corrected against reality.

Per site and per block the losses are second-order predictions from one pass (`rank_scores`, `kernel_scores`,
`channel_scores`), each family scaled by measured edits (`rank_correction`, `correction`); block drops, token sets and
table kernels are few enough to be measured one by one. All losses are nats per token of the dense tokenizer, on domain
selection text.
"""

import numpy as np
import torch
from torch import Tensor, nn

from edgeprune.calibrate.channel_scores import channel_losses, channel_menu, channel_order, compensated_down
from edgeprune.calibrate.correction import Correction, measure_correction
from edgeprune.calibrate.depth_scores import depth_options
from edgeprune.calibrate.kernel_scores import kernel_losses, rounded_weight
from edgeprune.calibrate.lorp import representation_locality
from edgeprune.calibrate.rank_correction import correct_rank_losses
from edgeprune.calibrate.rank_scores import RANK_METHODS, rank_losses
from edgeprune.calibrate.selection import Selection, dense_loss
from edgeprune.calibrate.site_weights import SiteWeight, site_weights
from edgeprune.calibrate.statistics import TABLE, CalibrationStats
from edgeprune.calibrate.table_scores import table_losses
from edgeprune.calibrate.vocabulary_scores import vocabulary_options
from edgeprune.intake.load import LoadedModel
from edgeprune.rounding import rounding_key
from edgeprune.schema.events import Event, Progress
from edgeprune.schema.kernel import parse_kernel
from edgeprune.schema.scores import CalibrationSummary, ScoreArrays, Scores

__all__ = ["score_model"]

_CHANNEL_SHARE = 0.75
"""Share of the channels kept in the edit that corrects the channel losses."""


def score_model(
    loaded: LoadedModel,
    stats: CalibrationStats,
    *,
    kernels: tuple[str, ...],
    domain: Selection,
    general: Selection,
    calibration: CalibrationSummary,
    seed: int,
    progress: Progress,
) -> tuple[Scores, ScoreArrays]:
    """Scores of the dense model and the arrays beside them."""
    sites = list(site_weights(loaded, stats))
    arrays: ScoreArrays = {}
    for site in sites:
        progress.raise_if_cancelled()
        for method, losses in rank_losses(site):
            arrays[f"rank_loss/{method}/{site.name}"] = losses
        arrays[f"kernel_loss/{site.name}"] = kernel_losses(site, kernels)
    _tell(progress, "ranks and kernels scored", 0.5)
    similarity = stats.block_similarity.numpy()
    depth = depth_options(loaded, similarity, domain, progress=progress)
    notes = correct_rank_losses(loaded, sites, arrays, domain, progress=progress)
    _tell(progress, "rank losses compared with real truncation", 0.8)
    corrections = _correct_kernels(loaded, sites, arrays, kernels, domain, progress)
    channel_counts, channel_corrections = _score_channels(loaded, stats, sites, arrays, domain, progress)
    corrections += channel_corrections
    _tell(progress, "predictions compared with real edits", 0.85)
    arrays[f"kernel_loss/{TABLE}"] = table_losses(loaded, kernels, domain, progress=progress)
    vocabulary = vocabulary_options(loaded, stats, domain, progress=progress)
    notes += [correction.note for correction in corrections]
    if not vocabulary:
        notes.append("vocabulary: only byte-level BPE tokenizers can be trimmed, so no token set was scored.")
    scores = Scores(
        model_hash=loaded.spec.model_hash,
        seed=seed,
        calibration=calibration,
        dense_losses=(dense_loss("domain", domain), dense_loss("general", general)),
        kernels=kernels,
        rank_methods=RANK_METHODS,
        channel_counts=channel_counts,
        depth=depth,
        representation_locality=representation_locality(similarity),
        vocabulary=vocabulary,
        notes=tuple(notes),
    )
    return scores, arrays


def _correct_kernels(
    loaded: LoadedModel,
    sites: list[SiteWeight],
    arrays: ScoreArrays,
    kernels: tuple[str, ...],
    selection: Selection,
    progress: Progress,
) -> list[Correction]:
    """By all roundings to the fewest bits scored, added up.

    Finer kernels' losses drown in the noise of a measurement, and one rounding alone may happen to help: on 4,096
    tokens int4 in blocks of 128 was measured to cost less than in blocks of 32.
    """
    integers = {rounding_key(kernel): kernel for kernel in kernels if parse_kernel(kernel).kind != "float"}
    if not integers:
        return []
    fewest = min(parse_kernel(kernel).bits for kernel in integers.values())
    chosen = [kernel for kernel in integers.values() if parse_kernel(kernel).bits == fewest]
    measured = [
        measure_correction(
            loaded,
            selection,
            {site.name: rounded_weight(site.weight, kernel) for site in sites},
            family="kernel_loss",
            edit=f"every site rounded to {kernel}",
            predicted=_kernel_total(sites, arrays, kernels.index(kernel)),
            progress=progress,
        )
        for kernel in chosen
    ]
    correction = Correction(
        family="kernel_loss",
        edit=f"every site rounded to {', '.join(chosen)}, added up,",
        predicted=sum(one.predicted for one in measured),
        measured=sum(one.measured for one in measured),
    )
    _scale(arrays, correction)
    return [correction]


def _score_channels(
    loaded: LoadedModel,
    stats: CalibrationStats,
    sites: list[SiteWeight],
    arrays: ScoreArrays,
    selection: Selection,
    progress: Progress,
) -> tuple[tuple[tuple[int, ...], ...], list[Correction]]:
    menus = []
    weights: dict[str, Tensor] = {}
    predicted = 0.0
    for site in sites:
        if not site.name.endswith(".down"):
            continue
        progress.raise_if_cancelled()
        has_bias = _has_bias(loaded, site)
        width = site.weight.shape[1]
        order = channel_order(stats, site.block, site.weight, has_bias=has_bias)
        errors = channel_losses(stats, site.block, site.weight, order, has_bias=has_bias)
        losses = 0.5 * site.output_weight * errors
        menu = channel_menu(width)
        menus.append(menu)
        arrays[f"channel_loss/{site.block}"] = losses[list(menu)]
        kept_count = round(_CHANNEL_SHARE * width)
        kept = torch.from_numpy(np.sort(order[:kept_count]))
        weights[site.name] = compensated_down(stats, site.block, site.weight, kept, has_bias=has_bias)
        predicted += float(losses[kept_count])
    if not weights:
        return (), []
    correction = measure_correction(
        loaded,
        selection,
        weights,
        family="channel_loss",
        edit=f"every block at {_CHANNEL_SHARE:.0%} of its channels, compensated",
        predicted=predicted,
        progress=progress,
    )
    _scale(arrays, correction)
    return tuple(menus), [correction]


def _scale(arrays: ScoreArrays, correction: Correction) -> None:
    for key in arrays:
        if key.startswith(f"{correction.family}/"):
            arrays[key] = arrays[key] * correction.factor


def _kernel_total(sites: list[SiteWeight], arrays: ScoreArrays, column: int) -> float:
    return sum(float(arrays[f"kernel_loss/{site.name}"][column]) for site in sites)


def _has_bias(loaded: LoadedModel, site: SiteWeight) -> bool:
    position = loaded.block_indices.index(site.block)
    module = loaded.adapter.site(loaded.adapter.blocks(loaded.model)[position], "down")
    assert isinstance(module, nn.Linear)
    return module.bias is not None


def _tell(progress: Progress, message: str, done_fraction: float) -> None:
    progress.emit(Event(kind="stage_advanced", stage="calibrate", message=message, done_fraction=done_fraction))
