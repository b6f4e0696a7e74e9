"""The channel pass: FFN channels leave gate, up and down of the blocks the recipe names.

Takes statistics of the model as it is; the channels that stay are the most important ones of
`edgeprune.calibrate.channel_scores`, in their old order, and the down projection is compensated for the rest.
"""

from dataclasses import dataclass

import numpy as np
import torch
from msgspec.structs import replace
from torch import Tensor, nn

from edgeprune.calibrate.channel_scores import channel_order
from edgeprune.calibrate.statistics import input_key
from edgeprune.compress.channels import compensate
from edgeprune.compress.passes import Work, check_finite, linear
from edgeprune.errors import ModelError
from edgeprune.schema.model import site_name
from edgeprune.schema.recipe import Recipe

__all__ = ["NarrowChannels"]


@dataclass(frozen=True)
class NarrowChannels:
    """The pass."""

    name: str = "channels"
    reads_stats: bool = True
    changes_inputs: bool = True

    def part(self, applied: Recipe, recipe: Recipe) -> Recipe:
        """Adds the kept channels."""
        return replace(applied, keep_channels=recipe.keep_channels)

    def apply(self, work: Work, recipe: Recipe) -> None:
        """Slice and compensate."""
        model, adapter = work.loaded.model, work.loaded.adapter
        for entry in recipe.keep_channels:
            work.progress.raise_if_cancelled()
            block = adapter.blocks(model)[work.position(entry.block)]
            name = site_name(entry.block, "down")
            key = input_key(name)
            down = adapter.site(block, "down")
            assert isinstance(down, nn.Linear)
            gram, mean = work.stats.gram[key], work.stats.mean[key]
            try:
                order = channel_order(work.stats, entry.block, down.weight, has_bias=down.bias is not None)
                kept = torch.from_numpy(np.sort(order[: entry.kept_count]))
                narrowed = compensate(down.weight, gram, kept, mean=mean, bias=down.bias)
            except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
                raise ModelError(
                    f"The channels of {name} cannot be weighed ({error}); the calibration text is too short for its "
                    "width or the statistics are damaged, calibrate again with more text."
                ) from error
            check_finite(name, narrowed.weight, narrowed.bias)
            adapter.set_site(block, "down", linear(narrowed.weight.float(), _float(narrowed.bias)))
            for role in ("gate", "up"):
                if role in adapter.roles:
                    site = adapter.site(block, role)
                    assert isinstance(site, nn.Linear)
                    bias = None if site.bias is None else site.bias[kept]
                    adapter.set_site(block, role, linear(site.weight[kept], bias))


def _float(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.float()
