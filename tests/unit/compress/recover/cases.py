"""The recipe the tests share, what they call a case, and how they compare models."""

import torch

from edgeprune.calibrate.loss import measure_loss
from edgeprune.calibrate.statistics import CalibrationStats
from edgeprune.compress.recover.data import RecoveryText
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.model import SiteRole, site_name
from edgeprune.schema.recipe import KeepChannels, Recipe, SiteEdit

__all__ = ["WINDOW", "Case", "copies", "cut", "loss", "same"]

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


def loss(loaded: LoadedModel, text: RecoveryText) -> float:
    """Nats per token on the selection text."""
    nats, count = measure_loss(loaded, text.selection)
    return nats / count


def copies(loaded: LoadedModel) -> dict[str, torch.Tensor]:
    """The weights as they are now."""
    return {name: value.clone() for name, value in loaded.model.state_dict().items()}


def same(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> bool:
    """Whether two sets of weights are equal."""
    return before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
