"""Depth pruning: whole blocks leave the model, or the attention or the MLP of a block alone.

Takes a model and the source indices of what to drop; the other blocks keep their order and their source indices, and
cache positions and configuration follow. What may go is decided by calibration. As published (LoRP, arXiv 2605.27786;
SLEB, arXiv 2402.09025) nothing is put in its place; where the recipe says so, an affine operator is (`repair`).
"""

from dataclasses import dataclass

from msgspec.structs import replace

from edgeprune.compress.passes import Work
from edgeprune.compress.repair import attach_repairs, fit_dropped
from edgeprune.schema.recipe import Recipe

__all__ = ["DropBlocks"]


@dataclass(frozen=True)
class DropBlocks:
    """The pass."""

    name: str = "blocks"
    reads_stats: bool = False
    changes_inputs: bool = True

    def part(self, applied: Recipe, recipe: Recipe) -> Recipe:
        """Adds the dropped blocks and parts, and what stands in their place."""
        return replace(
            applied,
            drop_blocks=recipe.drop_blocks,
            drop_attention=recipe.drop_attention,
            drop_mlp=recipe.drop_mlp,
            repairs=recipe.repairs,
        )

    def apply(self, work: Work, recipe: Recipe) -> None:
        """Remove the modules, and put operators where they were."""
        repairs = fit_dropped(work, recipe.drops)
        dropped = set(recipe.drop_blocks)
        positions = [at for at, index in enumerate(work.loaded.block_indices) if index not in dropped]
        model, adapter = work.loaded.model, work.loaded.adapter
        kept = [work.loaded.block_indices[at] for at in positions]
        adapter.keep_blocks(model, positions)
        for index in recipe.drop_attention:
            adapter.drop_attention(model, kept.index(index))
        for index in recipe.drop_mlp:
            adapter.drop_mlp(model, kept.index(index))
        attach_repairs(work, recipe.drops, repairs)
