"""Predicted loss of a recipe, from the losses calibration scored for each edit.

Losses are nats per token of the dense tokenizer on the domain's selection text and add up: depth + vocabulary +
channels of each block + rank and kernel of each site + kernel of the tables (second order in each edit, with the
cross terms left out; measured sums of site edits agree with the whole within a few percent while the total stays
below about 0.2 nats). Because bits-per-byte is loss times a constant of the text, the relative increase of
bits-per-byte is the increase of the loss / the dense loss.
"""

import numpy as np

from edgeprune.schema.kernel import FLOAT32
from edgeprune.schema.model import ModelSpec
from edgeprune.schema.recipe import RankMethod, Recipe
from edgeprune.schema.scores import ScoreArrays, Scores

__all__ = ["QualityModel"]

FACTORED_KERNEL_FACTOR = 2.0
"""Both factors are rounded, each with the relative error one dense matrix would have, independently."""
TABLE = "table"


class QualityModel:
    """Losses of edits and recipes."""

    def __init__(self, spec: ModelSpec, scores: Scores, arrays: ScoreArrays) -> None:
        """Index the scores."""
        self._spec = spec
        self._scores = scores
        self._arrays = arrays
        self._kernel_index = {name: index for index, name in enumerate(scores.kernels)}
        self._block_position = {block.index: position for position, block in enumerate(spec.blocks)}
        self.dense_loss_nats = _dense_loss(scores)

    def relative_loss(self, loss_increase_nats: float) -> float:
        """Relative increase of bits-per-byte: 0.02 is two percent worse than dense."""
        return loss_increase_nats / self.dense_loss_nats

    def kernel_loss(self, site: str, kernel: str, *, is_factored: bool = False) -> float | None:
        """Loss of storing a site (or `table`) under a kernel; None when it was not scored."""
        if kernel == FLOAT32:
            return 0.0
        index = self._kernel_index.get(kernel)
        losses = self._arrays.get(f"kernel_loss/{site}")
        if index is None or losses is None:
            return None
        return _finite(losses[index]) if not is_factored else _scaled(_finite(losses[index]), FACTORED_KERNEL_FACTOR)

    def rank_loss(self, site: str, rank: int, method: RankMethod) -> float | None:
        """Loss of keeping that rank; None when it was not scored."""
        losses = self._arrays.get(f"rank_loss/{method}/{site}")
        if losses is None or rank >= len(losses):
            return None
        return _finite(losses[rank])

    def best_rank_method(self, site: str, rank: int) -> tuple[RankMethod, float] | None:
        """The scored method that loses least at this rank; None when none was scored."""
        methods: tuple[RankMethod, ...] = ("lowrank", "laser")
        scored = [
            (loss, position, method)
            for position, method in enumerate(methods)
            if method in self._scores.rank_methods and (loss := self.rank_loss(site, rank, method)) is not None
        ]
        if not scored:
            return None
        loss, _, method = min(scored)
        return method, loss

    def channel_loss(self, block: int, kept_count: int) -> float | None:
        """Loss of keeping that many channels, linear between the scored counts; None outside of them."""
        position = self._block_position[block]
        if kept_count == self._spec.blocks[position].intermediate_size:
            return 0.0
        losses = self._arrays.get(f"channel_loss/{block}")
        counts = self._scores.channel_counts
        if losses is None or position >= len(counts) or not counts[position]:
            return None
        known = [*counts[position]]
        values = [float(value) for value in losses]
        full = self._spec.blocks[position].intermediate_size
        if known[-1] < full:
            known.append(full)
            values.append(0.0)
        if not known[0] <= kept_count:
            return None
        return _finite(np.interp(kept_count, known, values))

    def depth_loss(self, drop_blocks: tuple[int, ...]) -> float | None:
        """Measured loss of dropping exactly these blocks; None when it was not measured."""
        if not drop_blocks:
            return 0.0
        wanted = tuple(sorted(drop_blocks))
        losses = [
            option.loss_increase_nats for option in self._scores.depth if tuple(sorted(option.drop_blocks)) == wanted
        ]
        return min(losses) if losses else None

    def vocabulary_loss(self, kept_count: int) -> float | None:
        """Measured loss of keeping that many tokens, linear between the measured counts; None outside of them."""
        points = {self._spec.vocab_size: 0.0}
        points.update({option.kept_count: option.loss_increase_nats for option in self._scores.vocabulary})
        counts = sorted(points)
        if not counts[0] <= kept_count <= counts[-1]:
            return None
        return float(np.interp(kept_count, counts, [points[count] for count in counts]))

    def loss_increase_nats(self, recipe: Recipe) -> float | None:
        """Predicted loss a recipe adds to the dense model; None when one of its edits was not scored."""
        parts = [self.depth_loss(recipe.drop_blocks), self.kernel_loss(TABLE, recipe.table_kernel)]
        if recipe.keep_tokens is not None:
            parts.append(self.vocabulary_loss(recipe.keep_tokens.kept_count))
        parts += [self.channel_loss(entry.block, entry.kept_count) for entry in recipe.keep_channels]
        for edit in recipe.sites:
            parts.append(self.kernel_loss(edit.name, edit.kernel, is_factored=edit.rank is not None))
            if edit.rank is not None:
                parts.append(self.rank_loss(edit.name, edit.rank, edit.method))
        known = [part for part in parts if part is not None]
        return sum(known) if len(known) == len(parts) else None


def _dense_loss(scores: Scores) -> float:
    """The dense model's loss on the domain's selection text, or on the first text scored."""
    by_name = {entry.text: entry.loss_nats for entry in scores.dense_losses}
    for name in ("domain.selection", "domain.select", "domain"):
        if name in by_name:
            return by_name[name]
    return scores.dense_losses[0].loss_nats


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
