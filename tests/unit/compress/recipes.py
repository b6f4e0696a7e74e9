"""Recipes the tests share."""

from edgeprune.calibrate.statistics import CalibrationStats
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.model import SiteRole, site_name
from edgeprune.schema.recipe import KeepChannels, KeepTokens, Recipe, SiteEdit
from edgeprune.schema.scores import CalibrationSummary

__all__ = ["NO_SUMMARY", "Tiny", "every_edit", "no_edit"]

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
