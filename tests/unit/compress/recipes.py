"""Recipes the tests share."""

from msgspec.structs import replace

from edgeprune.calibrate.rank_scores import rank_losses
from edgeprune.calibrate.site_weights import site_weights
from edgeprune.calibrate.statistics import CalibrationStats
from edgeprune.compress.techniques.request import Request
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.model import SiteRole, site_name
from edgeprune.schema.recipe import KeepChannels, KeepTokens, Recipe, SiteEdit
from edgeprune.schema.scores import CalibrationSummary, Scores

__all__ = ["NO_SUMMARY", "Tiny", "every_edit", "no_edit", "rank_request"]

Tiny = tuple[LoadedModel, CalibrationStats]

NO_SUMMARY = CalibrationSummary(
    domain_token_count=1,
    general_token_count=1,
    document_count=1,
    stability=None,
    sequence_tokens=1,
    data_hash="",
    edits_hash="",
    general_source="",
)
"""Of scores that a test makes up."""


def no_edit(loaded: LoadedModel, **fields: object) -> Recipe:
    return Recipe(model_hash=loaded.spec.model_hash, context_tokens=32, **fields)  # type: ignore[arg-type]


def every_edit(loaded: LoadedModel) -> Recipe:
    """Fewer blocks, tokens and channels, ranks of both methods, every kind of kernel, all at once."""
    first: SiteRole = "qkv" if "qkv" in loaded.adapter.roles else "q"
    return no_edit(
        loaded,
        drop_blocks=(1,),
        keep_tokens=KeepTokens(kept_count=400),
        keep_channels=(KeepChannels(block=0, kept_count=64),),
        table_kernel="int8_b32_a4",
        sites=(
            SiteEdit(name=site_name(0, first), rank=12, method="laser"),
            SiteEdit(name=site_name(0, "o"), rank=16, kernel="int8_b32_a4"),
            SiteEdit(name=site_name(0, "down"), rank=20, kernel="int4_b32_a4"),
            SiteEdit(name=site_name(2, "o"), kernel="dynamic_int8"),
            SiteEdit(name=site_name(2, "up"), kernel="fp16"),
            SiteEdit(name=site_name(2, "down"), kernel="int4_b32_a4"),
        ),
    )


def rank_request(loaded: LoadedModel, stats: CalibrationStats, kept: float) -> Request:
    """To plan ranks from the statistics alone."""
    arrays = {
        f"rank_loss/lowrank/{site.name}": dict(rank_losses(site))["lowrank"] for site in site_weights(loaded, stats)
    }
    scores = Scores(
        model_hash=loaded.spec.model_hash,
        seed=0,
        calibration=NO_SUMMARY,
        dense_losses=(),
        kernels=(),
        rank_methods=("lowrank",),
    )
    return Request(
        spec=loaded.spec,
        scores=scores,
        arrays=arrays,
        target=round(kept * loaded.spec.parameter_count),
        empty=replace(no_edit(loaded), technique="lowrank"),
        stats=stats,
        loaded=loaded,
    )
