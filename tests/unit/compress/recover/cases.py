"""The recipe the tests share, and what they call a case."""

from edgeprune.calibrate.statistics import CalibrationStats
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.model import SiteRole, site_name
from edgeprune.schema.recipe import KeepChannels, Recipe, SiteEdit

__all__ = ["WINDOW", "Case", "cut"]

Case = tuple[LoadedModel, CalibrationStats]
"""A dense model and its statistics."""

WINDOW = 32


def cut(loaded: LoadedModel, **fields: object) -> Recipe:
    """Fewer blocks, channels and ranks, all at once."""
    first: SiteRole = "qkv" if "qkv" in loaded.adapter.roles else "q"
    return Recipe(
        model_hash=loaded.spec.model_hash,
        context_tokens=WINDOW,
        drop_blocks=(1,),
        keep_channels=(KeepChannels(block=2, kept_count=64),),
        sites=(
            SiteEdit(name=site_name(0, first), rank=12),
            SiteEdit(name=site_name(0, "o"), rank=16),
            SiteEdit(name=site_name(0, "down"), rank=20),
            SiteEdit(name=site_name(2, "o"), rank=12),
        ),
        **fields,  # type: ignore[arg-type]
    )
