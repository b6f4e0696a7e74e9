"""`score_model`: the loss of every edit the search may choose, predicted per site and corrected against reality.

Per site and per block the losses are second-order predictions from one pass (`rank_scores`, `kernel_scores`,
`channel_scores`), each family scaled by measured edits (`rank_correction`, `correction`); block drops, token sets and
table kernels are few enough to be measured one by one. All losses are nats per token of the dense tokenizer, on domain
selection text.
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from edgeprune.calibrate.cache_scores import cache_option
from edgeprune.calibrate.channel_scores import (
    SCORED,
    channel_errors_on,
    channel_losses,
    channel_menu,
    channel_order,
    compensated_down,
)
from edgeprune.calibrate.contrast import channel_contrast
from edgeprune.calibrate.correction import Correction, measure_correction
from edgeprune.calibrate.depth_scores import depth_options
from edgeprune.calibrate.general_text import GeneralText, general_text
from edgeprune.calibrate.group_correction import score_groups
from edgeprune.calibrate.kernel_scores import KernelScorer
from edgeprune.calibrate.lorp import representation_locality
from edgeprune.calibrate.matrix_rounding import round_matrix
from edgeprune.calibrate.outliers import has_outliers
from edgeprune.calibrate.rank_correction import correct_rank_losses
from edgeprune.calibrate.rank_scores import RANK_METHODS, rank_losses, rank_losses_on
from edgeprune.calibrate.selection import Selection, dense_loss
from edgeprune.calibrate.site_weights import SiteWeight, site_weights
from edgeprune.calibrate.statistics import TABLE, CalibrationStats
from edgeprune.calibrate.table_scores import table_losses
from edgeprune.calibrate.vocabulary_scores import vocabulary_options
from edgeprune.intake.load import LoadedModel
from edgeprune.rounding import rounding_key
from edgeprune.schema.events import Event, Progress
from edgeprune.schema.kernel import parse_kernel
from edgeprune.schema.recipe import RoundingMethod
from edgeprune.schema.scores import CalibrationSummary, ScoreArrays, Scores

__all__ = ["score_model"]

_CHANNEL_SHARE = 0.75
"""Share of the channels kept in the edit that corrects the channel losses."""


def score_model(
    loaded: LoadedModel,
    stats: CalibrationStats,
    *,
    kernels: tuple[str, ...],
    rounding: RoundingMethod,
    domain: Selection,
    general: Selection,
    calibration: CalibrationSummary,
    seed: int,
    progress: Progress,
    general_stats: CalibrationStats | None = None,
) -> tuple[Scores, ScoreArrays]:
    """Scores of the dense model and the arrays beside them.

    Args:
        loaded: the model; as it was when this returns.
        stats: moments on the domain's text; every edit is fitted to them.
        kernels: those to score, in the order of the arrays.
        rounding: how compression will round weights to integers.
        domain: selection text of the domain.
        general: general selection text.
        calibration: kept in the scores.
        seed: kept in the scores.
        progress: told all along.
        general_stats: moments on general text; None leaves the losses there unscored.
    """
    sites = list(site_weights(loaded, stats))
    elsewhere = None if general_stats is None else general_text(loaded, stats, general_stats, general)
    text = None if elsewhere is None else elsewhere.selection
    arrays: ScoreArrays = {}
    scorer = KernelScorer(kernels, rounding)
    for site in sites:
        progress.raise_if_cancelled()
        _score_site(site, arrays, scorer, elsewhere)
    _tell(progress, "ranks and kernels scored", 0.5)
    similarity = stats.block_similarity.numpy()
    depth = depth_options(loaded, similarity, domain, tokens=stats.tokens, progress=progress, general=text)
    notes = correct_rank_losses(loaded, sites, arrays, domain, progress=progress, general=elsewhere)
    _tell(progress, "rank losses compared with real truncation", 0.8)
    corrections = _correct_kernels(loaded, sites, arrays, scorer, domain, progress, elsewhere)
    channel_counts, channel_corrections = _score_channels(loaded, stats, sites, arrays, domain, progress, elsewhere)
    group_counts, group_corrections = score_groups(
        loaded, stats, sites, arrays, domain, progress=progress, general=elsewhere
    )
    corrections += channel_corrections + group_corrections
    _tell(progress, "predictions compared with real edits", 0.85)
    texts = [domain] if text is None else [domain, text]
    gram = stats.gram[TABLE] if rounding == "gptq" else None
    tables = table_losses(loaded, kernels, texts, gram=gram, progress=progress)
    arrays[f"kernel_loss/{TABLE}"] = tables[0]
    vocabulary = vocabulary_options(loaded, stats, domain, progress=progress, general=text)
    if elsewhere is not None:
        elsewhere.arrays[f"kernel_loss/{TABLE}"] = tables[1]
        arrays |= elsewhere.prefixed()
    _close_to_outliers(stats, sites, kernels, arrays)
    cache = cache_option(loaded, stats.tokens, domain, progress=progress, general=text)
    notes += [correction.note for correction in corrections]
    if cache is None:
        notes.append("cache: the attention of this family cannot be watched, so no 8-bit cache was measured.")
    if not vocabulary:
        notes.append("vocabulary: only tokenizers that can write every byte are trimmed, so no token set was scored.")
    scores = Scores(
        model_hash=loaded.spec.model_hash,
        seed=seed,
        calibration=calibration,
        dense_losses=(dense_loss("domain", domain), dense_loss("general", general)),
        kernels=kernels,
        rounding=rounding,
        rank_methods=RANK_METHODS,
        channel_counts=channel_counts,
        channel_criterion=SCORED,
        group_counts=group_counts,
        depth=depth,
        representation_locality=representation_locality(similarity),
        vocabulary=vocabulary,
        cache=cache,
        notes=tuple(notes),
    )
    return scores, arrays


def _score_site(site: SiteWeight, arrays: ScoreArrays, scorer: KernelScorer, general: GeneralText | None) -> None:
    """Expected losses of one site's ranks and kernels, not yet corrected."""
    if general is None:
        for method, losses in rank_losses(site):
            arrays[f"rank_loss/{method}/{site.name}"] = losses
        arrays[f"kernel_loss/{site.name}"] = scorer.losses(site)[0]
        return
    there = general.sites[site.name]
    for method, losses, losses_there in rank_losses_on(site, there):
        arrays[f"rank_loss/{method}/{site.name}"] = losses
        general.arrays[f"rank_loss/{method}/{site.name}"] = losses_there
    here, elsewhere = scorer.losses(site, there)
    arrays[f"kernel_loss/{site.name}"], general.arrays[f"kernel_loss/{site.name}"] = here, elsewhere


def _close_to_outliers(
    stats: CalibrationStats, sites: list[SiteWeight], kernels: tuple[str, ...], arrays: ScoreArrays
) -> None:
    """No loss is given for dynamic int8 where compression refuses it, so that no search offers it there."""
    columns = [at for at, kernel in enumerate(kernels) if parse_kernel(kernel).kind == "dynamic_int8"]
    for site in sites:
        if columns and has_outliers(stats, site.name):
            arrays[f"kernel_loss/{site.name}"][columns] = np.nan


def _correct_kernels(
    loaded: LoadedModel,
    sites: list[SiteWeight],
    arrays: ScoreArrays,
    scorer: KernelScorer,
    selection: Selection,
    progress: Progress,
    general: GeneralText | None,
) -> list[Correction]:
    """By all roundings to the fewest bits scored, added up.

    Finer kernels' losses drown in the noise of a measurement, and one rounding alone may happen to help: on 4,096
    tokens int4 in blocks of 128 was measured to cost less than in blocks of 32.
    """
    kernels = tuple(scorer.kernels)
    integers = {rounding_key(kernel): kernel for kernel in kernels if parse_kernel(kernel).kind != "float"}
    if not integers:
        return []
    fewest = min(parse_kernel(kernel).bits for kernel in integers.values())
    chosen = [kernel for kernel in integers.values() if parse_kernel(kernel).bits == fewest]
    measured = [
        measure_correction(
            loaded,
            selection,
            {
                site.name: round_matrix(site.weight, kernel, site.gram if scorer.rounding == "gptq" else None)
                for site in sites
            },
            family="kernel_loss",
            edit=f"every site rounded to {kernel}",
            predicted=_kernel_total(sites, arrays, kernels.index(kernel)),
            progress=progress,
            general=None if general is None else general.selection,
            general_predicted=(
                None if general is None else _kernel_total(sites, general.arrays, kernels.index(kernel))
            ),
        )
        for kernel in chosen
    ]
    correction = Correction(
        family="kernel_loss",
        edit=f"every site rounded to {', '.join(chosen)}, added up,",
        predicted=sum(one.predicted for one in measured),
        measured=sum(one.measured for one in measured),
        general_predicted=_total(one.general_predicted for one in measured),
        general_measured=_total(one.general_measured for one in measured),
    )
    _scale(arrays, correction, general)
    return [correction]


def _total(values: Iterable[float | None]) -> float | None:
    known = list(values)
    return None if None in known else sum(value for value in known if value is not None)


def _score_channels(
    loaded: LoadedModel,
    stats: CalibrationStats,
    sites: list[SiteWeight],
    arrays: ScoreArrays,
    selection: Selection,
    progress: Progress,
    general: GeneralText | None,
) -> tuple[tuple[tuple[int, ...], ...], list[Correction]]:
    menus = []
    weights: dict[str, Tensor] = {}
    predicted, general_predicted = 0.0, 0.0
    for site in sites:
        if not site.name.endswith(".down"):
            continue
        progress.raise_if_cancelled()
        has_bias = _has_bias(loaded, site)
        width = site.weight.shape[1]
        order = channel_order(stats, site.block, site.weight, has_bias=has_bias, criterion=SCORED)
        errors = channel_losses(stats, site.block, site.weight, order, has_bias=has_bias)
        losses = 0.5 * site.output_weight * errors
        menu = channel_menu(width)
        menus.append(menu)
        arrays[f"channel_loss/{site.block}"] = losses[list(menu)]
        kept_count = round(_CHANNEL_SHARE * width)
        kept = torch.from_numpy(np.sort(order[:kept_count]))
        weights[site.name] = compensated_down(stats, site.block, site.weight, kept, has_bias=has_bias)
        predicted += float(losses[kept_count])
        if general is not None:
            there = general.sites[site.name]
            arrays[f"channel_contrast/{site.block}"] = channel_contrast(site.gram, there.gram, order)
            counts = (*menu, kept_count)
            errors = channel_errors_on(stats, site.block, site.weight, order, counts, there.gram, has_bias=has_bias)
            expected = 0.5 * there.output_weight * errors
            general.arrays[f"channel_loss/{site.block}"] = expected[:-1]
            general_predicted += float(expected[-1])
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
        general=None if general is None else general.selection,
        general_predicted=None if general is None else general_predicted,
    )
    _scale(arrays, correction, general)
    return tuple(menus), [correction]


def _scale(arrays: ScoreArrays, correction: Correction, general: GeneralText | None) -> None:
    texts = [(arrays, correction.factor)]
    if general is not None:
        texts.append((general.arrays, correction.general_factor))
    for losses, factor in texts:
        for key in losses:
            if key.startswith(f"{correction.family}/"):
                losses[key] = losses[key] * factor


def _kernel_total(sites: list[SiteWeight], arrays: ScoreArrays, column: int) -> float:
    return sum(float(arrays[f"kernel_loss/{site.name}"][column]) for site in sites)


def _has_bias(loaded: LoadedModel, site: SiteWeight) -> bool:
    position = loaded.block_indices.index(site.block)
    module = loaded.adapter.site(loaded.adapter.blocks(loaded.model)[position], "down")
    assert isinstance(module, nn.Linear)
    return module.bias is not None


def _tell(progress: Progress, message: str, done_fraction: float) -> None:
    progress.emit(Event(kind="stage_advanced", stage="calibrate", message=message, done_fraction=done_fraction))
