"""The table of techniques: `edgeprune compress MODEL --technique T --kept F`.

Takes a model's shapes, its scores and the fraction of stored parameters to keep (tied tables counted once); gives the
recipe of that technique that comes nearest to the fraction and, at that size, has the least predicted loss. Every
kernel stays fp32, so the fraction is one of parameters and of bytes alike.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import get_args

from edgeprune.calibrate.selection import Selection
from edgeprune.calibrate.statistics import CalibrationStats
from edgeprune.compress.techniques import (
    asvd,
    contextual,
    flap,
    laser,
    lorp,
    lowrank,
    obs,
    shortgpt,
    sleb,
    streamline,
    svdllm,
    wanda,
)
from edgeprune.compress.techniques.request import Request
from edgeprune.errors import UsageError
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.events import NullProgress, Progress
from edgeprune.schema.model import ModelSpec, SiteForm
from edgeprune.schema.recipe import RankMethod, Recipe
from edgeprune.schema.scores import ScoreArrays, Scores
from edgeprune.shapes import count_parameters

__all__ = ["TECHNIQUES", "check_fraction", "technique_recipe"]

_PLANS: Mapping[str, Callable[[Request], Recipe]] = {
    "laser": laser.plan,
    "lowrank": lowrank.plan,
    "asvd": asvd.plan,
    "svdllm": svdllm.plan,
    "lorp": lorp.plan,
    "shortgpt": shortgpt.plan,
    "streamline": streamline.plan,
    "sleb": sleb.plan,
    "contextual": contextual.plan,
    "flap": flap.plan,
    "wanda": wanda.plan,
    "obs": obs.plan,
}
TECHNIQUES = tuple(_PLANS)
"""Techniques that can be asked for alone."""

assert set(get_args(RankMethod)) <= set(TECHNIQUES)


def check_fraction(kept_fraction: float) -> None:
    """Refuse what is no fraction of a model's parameters.

    Raises:
        UsageError: it lies outside (0, 1].
    """
    if not 0.0 < kept_fraction <= 1.0:
        raise UsageError(f"--kept {kept_fraction:g} must lie above 0 and at most 1; 0.7 keeps 70 % of the parameters.")


def technique_recipe(
    spec: ModelSpec,
    technique: str,
    kept_fraction: float,
    *,
    scores: Scores,
    arrays: ScoreArrays,
    context_tokens: int,
    seed: int = 0,
    compensate: bool = True,
    repair_rank: int | None = None,
    rank_form: SiteForm | None = None,
    stats: CalibrationStats | None = None,
    loaded: LoadedModel | None = None,
    select: Selection | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Recipe:
    """The recipe of one technique nearest to the kept fraction.

    `stats`, `loaded` and `select` are for techniques that measure; those that read scores alone do without.
    `compensate` is for those that slice channels: whether what stays makes up for what leaves. `repair_rank` is for
    those that drop blocks: the rank of what is put in their place. `rank_form` is for `lowrank`: how ranks are stored.
    In the folder `cache` measurements that hold for every fraction are kept.

    Raises:
        UsageError: an unknown technique, a fraction outside (0, 1] or out of the technique's reach, or scores without
            what the technique needs.
    """
    plan = _PLANS.get(technique)
    if plan is None:
        raise UsageError(f"Unknown technique {technique!r}; use one of {', '.join(TECHNIQUES)}.")
    check_fraction(kept_fraction)
    request = Request(
        spec=spec,
        scores=scores,
        arrays=arrays,
        target=round(kept_fraction * count_parameters(spec)),
        empty=Recipe(model_hash=spec.model_hash, technique=technique, context_tokens=context_tokens, seed=seed),
        stats=stats,
        loaded=loaded,
        select=select,
        compensate=compensate,
        repair_rank=repair_rank,
        rank_form=rank_form,
        cache=cache,
        progress=progress or NullProgress(),
    )
    return plan(request)
