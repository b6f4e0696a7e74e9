"""A technique at a kept fraction: calibrate on the domain, make the technique's recipe, apply it, save.

Most techniques plan from scores, statistics and the model (`compress.techniques`). `auto` joins all of them, which is
the search's work, so its recipe comes from `joint`.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from edgeprune.artifacts import RunFolder, write_arrays, write_record
from edgeprune.errors import UsageError
from edgeprune.pipeline.recovery import plan_recipe
from edgeprune.pipeline.request import check_recovery
from edgeprune.pipeline.settings import KERNELS
from edgeprune.schema.events import Progress
from edgeprune.schema.model import SiteForm
from edgeprune.schema.recipe import Recipe
from edgeprune.schema.recovery import RecoveryRequest
from edgeprune.schema.run import CompressOutcome

if TYPE_CHECKING:
    from edgeprune.calibrate.run import CalibrationResult
    from edgeprune.calibrate.selection import Selection
    from edgeprune.intake.load import LoadedModel

__all__ = ["compress_single", "selection_of", "single_recipe", "technique_names"]

SELECTION_TOKENS = 4_096
"""Of the domain's selection text, for techniques that measure; what calibration measures its own edits on."""
REPAIR_TOKENS = 98_304
"""Calibration tokens where dropped blocks are repaired: three times as many as for all else. Operators and projections
are least squares over as many inputs as they have: where a 14-million-parameter model lost 4 of 16 blocks, they left
0.52 of its loss on medicine with 32,768 tokens and 0.49 with these."""
WINDOW_TOKENS = 256
"""Tokens of a window whose loss is measured, as calibration and validation cut them."""


def compress_single(
    model: str,
    *,
    technique: str,
    kept_fraction: float,
    domain: Sequence[Path],
    general: Sequence[Path],
    output: Path,
    context: int | None,
    seed: int,
    progress: Progress,
    compensate: bool = True,
    repair_rank: int | None = None,
    rank_form: SiteForm | None = None,
    recovery: RecoveryRequest | None = None,
) -> CompressOutcome:
    """Compress a model with one technique, or with `auto` all of them, to a fraction of its parameters.

    Raises:
        UsageError: an unknown technique, a fraction it cannot reach, or an output folder that is not empty.
        ModelError: the model cannot be loaded.
    """
    if output.exists() and any(output.iterdir()):
        raise UsageError(f"{output} is not empty; give a new folder with -o.")
    check_recovery(recovery)
    if technique not in technique_names():
        raise UsageError(f"Unknown technique {technique!r}; use one of {', '.join(technique_names())}.")
    from edgeprune.calibrate.run import CalibrationRequest, calibrate  # torch: after the flags are known to be good
    from edgeprune.compress.apply import compress_model
    from edgeprune.compress.save import save_hf
    from edgeprune.intake.load import load_model
    from edgeprune.intake.source import resolve_model

    source = resolve_model(model)
    dense = load_model(source)
    tokens = min(context or 512, dense.spec.max_positions)
    width = dense.spec.hidden_size
    if repair_rank is not None and not 1 <= repair_rank <= width:
        raise UsageError(f"--repair {repair_rank} must lie in 1..{width}, the width of the model.")
    with tempfile.TemporaryDirectory() as root:
        folder = RunFolder(Path(root))
        request = CalibrationRequest(
            domain=tuple(domain),
            general=tuple(general),
            evaluation=(),
            context_tokens=tokens,
            seed=seed,
            kernels=KERNELS,
        )
        if repair_rank is not None:
            request = replace(request, domain_token_limit=REPAIR_TOKENS)
        result = calibrate(
            dense,
            request,
            texts_folder=folder.texts,
            progress=progress,
        )
        recipe = single_recipe(
            source,
            dense,
            technique,
            kept_fraction,
            result=result,
            folder=folder,
            context_tokens=tokens,
            seed=seed,
            progress=progress,
            compensate=compensate,
            repair_rank=repair_rank,
            rank_form=rank_form,
            cache=Path(platformdirs.user_cache_dir("edgeprune")) / "measured",
        )
        if recovery is not None:
            recipe = plan_recipe(dense, recipe, result.stats, recovery, texts=folder.texts, progress=progress)
        compressed = compress_model(dense, recipe, result.stats, progress=progress, texts=folder.texts)
    save_hf(compressed, recipe, output)
    kept = compressed.spec.parameter_count / dense.spec.parameter_count
    return CompressOutcome(folder=str(output), kept_fraction=kept, recipe=recipe)


def technique_names() -> tuple[str, ...]:
    """Every technique that can be asked for, `auto` last."""
    from edgeprune.compress.techniques.table import TECHNIQUES  # torch
    from edgeprune.pipeline.joint import TECHNIQUE

    return (*TECHNIQUES, TECHNIQUE)


def single_recipe(
    source: Path,
    dense: "LoadedModel",
    technique: str,
    kept_fraction: float,
    *,
    result: "CalibrationResult",
    folder: RunFolder,
    context_tokens: int,
    seed: int,
    progress: Progress,
    compensate: bool = True,
    repair_rank: int | None = None,
    rank_form: SiteForm | None = None,
    cache: Path | None = None,
) -> Recipe:
    """The recipe of a technique at a kept fraction.

    Args:
        source: folder of the dense model.
        dense: the same, loaded; not changed.
        technique: one of `technique_names`.
        kept_fraction: stored parameters / the dense model's, tied tables once.
        result: of the calibration.
        folder: with the texts of the calibration; `auto` completes it and keeps there what it built.
        context_tokens: kept in the recipe.
        seed: kept in the recipe.
        progress: told all along.
        compensate: False slices channels and does no more; for techniques that slice them.
        repair_rank: of the operators in the place of dropped blocks, None for nothing; for techniques that drop them.
        rank_form: how `lowrank` stores ranks; None is the pivot form.
        cache: folder where what a technique measures for every fraction is kept; None takes the calibration's.

    Raises:
        UsageError: an unknown technique, or a fraction it cannot reach.
    """
    from edgeprune.compress.techniques.table import check_fraction, technique_recipe
    from edgeprune.pipeline.joint import TECHNIQUE, joint_recipe

    check_fraction(kept_fraction)
    if technique == TECHNIQUE:
        if not folder.stats.is_file():  # a run's or a bench's folder has them
            result.stats.save(folder.stats)
            write_arrays(folder.scores_arrays, result.arrays)
            write_record(folder.scores, result.scores)
        return joint_recipe(
            source,
            dense.spec,
            kept_fraction,
            folder=folder,
            context_tokens=context_tokens,
            seed=seed,
            progress=progress,
        )
    return technique_recipe(
        dense.spec,
        technique,
        kept_fraction,
        scores=result.scores,
        arrays=result.arrays,
        context_tokens=context_tokens,
        seed=seed,
        compensate=compensate,
        repair_rank=repair_rank,
        rank_form=rank_form,
        cache=cache or folder.root,
        stats=result.stats,
        loaded=dense,
        select=selection_of(dense, folder, context_tokens=context_tokens, progress=progress),
        progress=progress,
    )


def selection_of(dense: "LoadedModel", folder: RunFolder, *, context_tokens: int, progress: Progress) -> "Selection":
    """The first of the domain's selection text that a calibration left, with the dense model's loss on it."""
    from edgeprune.calibrate.corpus import encode, read_split
    from edgeprune.calibrate.selection import prepare_selection
    from edgeprune.calibrate.token_bytes import token_byte_lengths

    documents = read_split(folder.texts, "domain", "select")
    return prepare_selection(
        dense,
        documents,
        encode(dense.tokenizer, documents),
        byte_lengths=token_byte_lengths(dense.tokenizer),
        window_tokens=min(context_tokens, dense.spec.max_positions, WINDOW_TOKENS),
        limit_tokens=SELECTION_TOKENS,
        progress=progress,
    )
