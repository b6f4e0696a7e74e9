"""Depth pruning: whole blocks leave the model.

Takes a model and the source indices of the blocks to drop; the others keep their order and their source indices, and
cache positions and configuration follow. Which blocks may go is decided by calibration (LoRP, arXiv 2605.27786); as
published there, nothing is put in their place.
"""

from dataclasses import dataclass

from msgspec.structs import replace

from edgeprune.compress.passes import Work
from edgeprune.schema.recipe import Recipe

__all__ = ["DropBlocks"]


@dataclass(frozen=True)
class DropBlocks:
    """The pass."""

    name: str = "blocks"
    reads_stats: bool = False
    changes_inputs: bool = True

    def part(self, applied: Recipe, recipe: Recipe) -> Recipe:
        """Adds the dropped blocks."""
        return replace(applied, drop_blocks=recipe.drop_blocks)

    def apply(self, work: Work, recipe: Recipe) -> None:
        """Remove the modules."""
        dropped = set(recipe.drop_blocks)
        positions = [at for at, index in enumerate(work.loaded.block_indices) if index not in dropped]
        work.loaded.adapter.keep_blocks(work.loaded.model, positions)
