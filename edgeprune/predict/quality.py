"""Predicted loss of a recipe, from the losses calibration scored for each edit and the recipes that were built.

Losses are nats per token of the dense tokenizer on the domain's selection text. As scored they add up: depth +
vocabulary + key-value groups and channels of each block + rank and kernel of each site + kernel of the tables + an
8-bit cache (second order in each edit, with the cross terms left out). Where recipes have been built and measured, the
sums of each family of edits go through the surrogate fitted to them (`residual`): a whole recipe's loss is the
surrogate's, and single edits are multiplied by its linearisation near a region, which is what a linear solver can use.
Because bits-per-byte is loss times a constant of the text, the relative increase of bits-per-byte is the increase of
the loss / the dense loss.
"""

import numpy as np

from edgeprune.predict.residual import FAMILIES, Surrogate, kernel_family
from edgeprune.schema.kernel import FLOAT32
from edgeprune.schema.model import SITE_FORMS, ModelSpec, SiteForm
from edgeprune.schema.recipe import Drops, RankMethod, Recipe
from edgeprune.schema.residuals import Residuals
from edgeprune.schema.scores import ScoreArrays, Scores

__all__ = ["QualityModel"]

FORM_KERNEL_FACTORS: dict[SiteForm, float] = {
    "factors": 1.5,
    "pivot": 6.5,
    "shared": 1.5,
    "head_rows": 1.0,
    "head_columns": 1.0,
}
"""What rounding costs a low-rank site, for each unit it costs the dense matrix: both parts are rounded, the second
fitted to the first, and pivot rows hand their errors on to all others; measured in `edgeprune.compress.fit_rounded`."""
TABLE = "table"


class QualityModel:
    """Losses of edits and recipes."""

    def __init__(
        self,
        spec: ModelSpec,
        scores: Scores,
        arrays: ScoreArrays,
        residuals: Residuals | None = None,
        *,
        region: Recipe | None = None,
        excluded: frozenset[str] = frozenset(),
    ) -> None:
        """Index the scores.

        Args:
            spec: the dense model.
            scores: what calibration scored.
            arrays: beside the scores.
            residuals: what building recipes taught; None takes the scores as they are.
            region: where single edits are priced; None takes the mean of the recipes that were built.
            excluded: families whose single edits have no price, so that a search does without them.
        """
        self._spec = spec
        self._scores = scores
        self._arrays = arrays
        self._kernel_index = {name: index for index, name in enumerate(scores.kernels)}
        self._block_position = {block.index: position for position, block in enumerate(spec.blocks)}
        self.dense_loss_nats = _dense_loss(scores)
        self._excluded = excluded
        self._multipliers = dict.fromkeys(FAMILIES, 1.0)
        self._surrogate: Surrogate | None = None
        if residuals is not None and residuals.fit is not None:
            self._surrogate = Surrogate.of(residuals.fit)
            around = [region] if region is not None else [entry.recipe for entry in residuals.evaluations]
            known = [sums for recipe in around if (sums := self.family_losses(recipe)) is not None]
            mean = {family: sum(sums[family] for sums in known) / max(1, len(known)) for family in FAMILIES}
            self._multipliers = self._surrogate.linearised(mean)

    def relative_loss(self, loss_increase_nats: float) -> float:
        """Relative increase of bits-per-byte: 0.02 is two percent worse than dense."""
        return loss_increase_nats / self.dense_loss_nats

    def kernel_loss(self, site: str, kernel: str, *, form: SiteForm | None = None) -> float | None:
        """Loss of storing a site, dense or in a form of low rank, or `table` under a kernel; None when not scored."""
        if kernel == FLOAT32:
            return 0.0
        family = "tables" if site == TABLE else kernel_family(kernel)
        return self._priced(family, self._kernel_score(site, kernel, form=form))

    def rank_loss(self, site: str, rank: int, method: RankMethod) -> float | None:
        """Loss of keeping that rank; None when it was not scored."""
        return self._priced(method, self._rank_score(site, rank, method))

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
        score = self._channel_score(block, kept_count)
        return score if score == 0.0 else self._priced("channels", score)

    def group_loss(self, block: int, kept_count: int) -> float | None:
        """Loss of keeping that many key-value groups, linear between the scored counts; None outside of them."""
        score = self._group_score(block, kept_count)
        return score if score == 0.0 else self._priced("groups", score)

    def depth_loss(self, drops: Drops) -> float | None:
        """Loss of dropping exactly these blocks and halves; None when it was not measured."""
        return self._priced("depth", self._depth_score(drops)) if any(drops) else 0.0

    def vocabulary_loss(self, kept_count: int) -> float | None:
        """Loss of keeping that many tokens, linear between the measured counts; None outside of them."""
        return self._priced("vocabulary", self._vocabulary_score(kept_count))

    def cache_loss(self, kv_bits: int) -> float | None:
        """Loss of a cache of so many bits; None when it was not measured."""
        return 0.0 if kv_bits == 32 else self._priced("cache", self._cache_score(kv_bits))

    def family_losses(self, recipe: Recipe) -> dict[str, float] | None:
        """Family -> sum of the scored losses of a recipe's edits, not corrected; None when one was not scored."""
        parts: list[tuple[str, float | None]] = [
            ("depth", self._depth_score(recipe.drops)),
            ("tables", self._kernel_score(TABLE, recipe.table_kernel)),
            ("cache", self._cache_score(recipe.kv_bits)),
        ]
        if recipe.keep_tokens is not None:
            parts.append(("vocabulary", self._vocabulary_score(recipe.keep_tokens.kept_count)))
        parts += [("channels", self._channel_score(entry.block, entry.kept_count)) for entry in recipe.keep_channels]
        parts += [("groups", self._group_score(entry.block, entry.kept_count)) for entry in recipe.keep_groups]
        for edit in recipe.sites:
            loss = self._kernel_score(edit.name, edit.kernel, form=None if edit.rank is None else edit.form)
            parts.append((kernel_family(edit.kernel), loss))
            if edit.rank is not None:
                # What sites lose together, with one right factor or few values a head, was not scored.
                score = None if edit.form not in SITE_FORMS else self._rank_score(edit.name, edit.rank, edit.method)
                parts.append((edit.method, score))
        sums = dict.fromkeys(FAMILIES, 0.0)
        for family, part in parts:
            if part is None:
                return None
            sums[family] += part
        return sums

    def loss_increase_nats(self, recipe: Recipe) -> float | None:
        """Predicted loss a recipe adds to the dense model; None when one of its edits was not scored."""
        sums = self.family_losses(recipe)
        if sums is None:
            return None
        return sum(sums.values()) if self._surrogate is None else self._surrogate.total(sums)

    def _priced(self, family: str, score: float | None) -> float | None:
        return None if score is None or family in self._excluded else score * self._multipliers[family]

    def _kernel_score(self, site: str, kernel: str, *, form: SiteForm | None = None) -> float | None:
        if kernel == FLOAT32:
            return 0.0
        index = self._kernel_index.get(kernel)
        losses = self._arrays.get(f"kernel_loss/{site}")
        if index is None or losses is None:
            return None
        loss = _finite(losses[index])
        return loss if loss is None or form is None else loss * FORM_KERNEL_FACTORS[form]

    def _cache_score(self, kv_bits: int) -> float | None:
        if kv_bits == 32:
            return 0.0
        measured = self._scores.cache
        return None if measured is None or measured.kv_bits != kv_bits else max(0.0, measured.loss_increase_nats)

    def _rank_score(self, site: str, rank: int, method: RankMethod) -> float | None:
        losses = self._arrays.get(f"rank_loss/{method}/{site}")
        if losses is None or rank >= len(losses):
            return None
        return _finite(losses[rank])

    def _channel_score(self, block: int, kept_count: int) -> float | None:
        full = self._spec.blocks[self._block_position[block]].intermediate_size
        return self._between("channel", self._scores.channel_counts, block, kept_count, full)

    def _group_score(self, block: int, kept_count: int) -> float | None:
        full = self._spec.blocks[self._block_position[block]].num_kv_heads
        return self._between("group", self._scores.group_counts, block, kept_count, full)

    def _between(
        self, what: str, counts: tuple[tuple[int, ...], ...], block: int, kept_count: int, full: int
    ) -> float | None:
        """Linear between the counts scored for a block and all of them, which cost nothing."""
        if kept_count == full:
            return 0.0
        position = self._block_position[block]
        losses = self._arrays.get(f"{what}_loss/{block}")
        if losses is None or position >= len(counts) or not counts[position]:
            return None
        known = [*counts[position]]
        values = [float(value) for value in losses]
        if known[-1] < full:
            known.append(full)
            values.append(0.0)
        if not known[0] <= kept_count:
            return None
        return _finite(np.interp(kept_count, known, values))

    def _depth_score(self, drops: Drops) -> float | None:
        if not any(drops):
            return 0.0
        losses = [option.loss_increase_nats for option in self._scores.depth if option.drops == drops]
        return min(losses) if losses else None

    def _vocabulary_score(self, kept_count: int) -> float | None:
        points = {self._spec.vocab_size: 0.0}
        points.update({option.kept_count: option.loss_increase_nats for option in self._scores.vocabulary})
        counts = sorted(points)
        if not counts[0] <= kept_count <= counts[-1]:
            return None
        return float(np.interp(kept_count, counts, [points[count] for count in counts]))


def _dense_loss(scores: Scores) -> float:
    """The dense model's loss on the domain's selection text, or on the first text scored."""
    by_name = {entry.text: entry.loss_nats for entry in scores.dense_losses}
    for name in ("domain.selection", "domain.select", "domain"):
        if name in by_name:
            return by_name[name]
    return scores.dense_losses[0].loss_nats


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
