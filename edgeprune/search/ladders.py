"""What stands on the menu of a search: sets of blocks, vocabulary sizes, widths, ranks and kernels, with their losses.

Locks add the numbers they name and take away what they do not allow. The whole menu, which an explanation shows, keeps
what locks take away and adds what given recipes use.
"""

from collections.abc import Sequence
from typing import NamedTuple

from edgeprune.schema.kernel import FLOAT32, parse_kernel
from edgeprune.schema.model import SITE_FORMS, BlockSpec, SiteForm, SiteSpec
from edgeprune.schema.recipe import Drops, RankMethod, Recipe
from edgeprune.search.locks import Holds
from edgeprune.search.problem import Problem
from edgeprune.shapes import break_even_rank

__all__ = ["Form", "Ladders", "rank_ladder"]

MAX_RANKS = 16
MAX_FINE_RANKS = 32
"""Where a step is wanted."""
MAX_CHANNEL_COUNTS = 8
MAX_DEPTH_OPTIONS = 24
RANK_STEP = 32
SMALL_RANK_STEP = 8
"""For matrices whose break-even rank is below 64, where steps of 32 would leave no choice."""
MAX_PIVOT_RANKS = 8
"""Ranks offered in the pivot form too: each comes once for every kernel and width."""


class Form(NamedTuple):
    """A rank on offer."""

    rank: int | None
    """None: one matrix."""
    method: RankMethod
    form: SiteForm
    loss_nats: float
    """Of the rank by that method, in whatever form."""


def rank_ladder(
    in_features: int, out_features: int, wanted_step: int | None = None, form: SiteForm = "factors"
) -> list[int]:
    """Ranks that save parameters in equal steps, at most 16 of them, of a multiple of 32 (8 for small matrices).

    With a step that is wanted: at most 32 of them, of a multiple of it.
    """
    limit = min(break_even_rank(in_features, out_features, form), min(in_features, out_features) - 1)
    if wanted_step is not None:
        step = wanted_step * -(-(limit // wanted_step) // MAX_FINE_RANKS) or wanted_step
        return list(range(step, limit + 1, step))
    step = RANK_STEP if limit >= 2 * RANK_STEP else SMALL_RANK_STEP
    while limit // step > MAX_RANKS:
        step += RANK_STEP
    return list(range(step, limit + 1, step))


def _is_offered(kernel: str, timed: frozenset[str] | None) -> bool:
    """Kernels the device has timed; where it timed none, all but one whose time no formula tells."""
    return parse_kernel(kernel).kind != "dynamic_int8" if timed is None else kernel in timed


class Ladders:
    """The options of one problem."""

    def __init__(self, problem: Problem, holds: Holds, *, recipes: Sequence[Recipe] | None = None) -> None:
        """Look at what was scored; with `recipes` (perhaps none) the menu is whole."""
        self._problem = problem
        self._holds = holds
        self._is_whole = recipes is not None
        self._recipes = recipes or ()
        self.is_restricted = False
        """True once a ladder had to be thinned, so that the optimum is over a subset of what was scored."""
        timed = problem.cost_model.timed_kernels
        self.kernels: list[str] = [
            kernel for kernel in dict.fromkeys((FLOAT32, *problem.scores.kernels)) if _is_offered(kernel, timed)
        ] or [FLOAT32]
        self._methods: dict[tuple[str, int], list[tuple[RankMethod, float]]] = {}
        # What a shared right factor loses was scored for no site.
        self._edits = [edit for recipe in self._recipes for edit in recipe.sites if edit.form in SITE_FORMS]

    def scored_depth(self) -> dict[Drops, float]:
        """Every scored set of blocks and halves to drop, and none, with its loss."""
        found: dict[Drops, float] = {Drops(): 0.0}
        for option in self._problem.scores.depth:
            loss = self._problem.quality_model.depth_loss(option.drops)
            attends = any(not option.drops.lacks_attention(block.index) for block in self._problem.spec.blocks)
            if loss is not None and attends:
                found[option.drops] = loss
        return found

    def depth(self) -> dict[Drops, float]:
        """Sets of blocks and halves the search may drop, thinned to the most promising ones."""
        losses = self.scored_depth()
        if self._is_whole:
            return losses
        kept = sorted(filter(self._holds.allows_depth, losses), key=lambda drop: (drop.block_count, losses[drop], drop))
        if len(kept) > MAX_DEPTH_OPTIONS:
            # The least loss at each count first: further sets of a count rarely win.
            ranks = {
                drop: sum(1 for other in kept[:position] if other.block_count == drop.block_count)
                for position, drop in enumerate(kept)
            }
            kept = sorted(kept, key=lambda drop: (ranks[drop], drop.block_count))[:MAX_DEPTH_OPTIONS]
            self.is_restricted = True
        return {drop: losses[drop] for drop in kept}

    def token_counts(self) -> dict[int | None, float]:
        """Vocabulary sizes with their loss; None keeps all."""
        named = [recipe.keep_tokens.kept_count for recipe in self._recipes if recipe.keep_tokens is not None]
        scored = [option.kept_count for option in self._problem.scores.vocabulary]
        found: dict[int | None, float] = {None: 0.0}
        for count in (*scored, *self._holds.token_counts(), *named):
            loss = self._problem.quality_model.vocabulary_loss(count)
            if loss is not None and count < self._problem.spec.vocab_size:
                found[count] = loss
        return found

    def table_kernels(self) -> list[str]:
        """How the tables may be stored.

        Not as dynamic int8: outliers of the head's inputs are not measured, and its layout makes looking up rows slow.
        """
        kernels = [kernel for kernel in self.kernels if parse_kernel(kernel).kind != "dynamic_int8"] or [FLOAT32]
        return [*dict.fromkeys((*kernels, *(recipe.table_kernel for recipe in self._recipes)))]

    def scored_widths(self, block: BlockSpec) -> list[int]:
        """Channel counts that were scored, short of all."""
        position = [other.index for other in self._problem.spec.blocks].index(block.index)
        scored = self._problem.scores.channel_counts
        return (
            [count for count in scored[position] if count < block.intermediate_size] if position < len(scored) else []
        )

    def widths(self, block: BlockSpec) -> list[int | None]:
        """Channel counts a block may keep, all (None) first, then the largest; thinned where there are many."""
        full = block.intermediate_size
        named = set(self._holds.channel_counts(block.index))
        named |= {
            entry.kept_count for each in self._recipes for entry in each.keep_channels if entry.block == block.index
        }
        named = {count for count in named if count < full}
        counts = sorted({*self.scored_widths(block), *named})
        if not self._is_whole:
            counts = [count for count in counts if self._holds.allows_channels(block.index, count, full)]
        if len(counts) > MAX_CHANNEL_COUNTS:
            stride = (len(counts) - 1) / (MAX_CHANNEL_COUNTS - 1)
            thinned = {counts[round(index * stride)] for index in range(MAX_CHANNEL_COUNTS)}
            counts = sorted(thinned | named if self._is_whole else thinned)
            self.is_restricted = True
        keeps_all = self._is_whole or self._holds.allows_channels(block.index, None, full)
        return [*([None] if keeps_all else []), *sorted(counts, reverse=True)]

    def scored_groups(self, block: BlockSpec) -> list[int]:
        """Numbers of key-value groups that were scored, short of all."""
        position = [other.index for other in self._problem.spec.blocks].index(block.index)
        scored = self._problem.scores.group_counts
        return [*scored[position]] if position < len(scored) else []

    def groups(self, block: BlockSpec) -> list[int | None]:
        """Key-value groups a block may keep, all (None) first, then the most."""
        full = block.num_kv_heads
        counts = {*self.scored_groups(block), *self._holds.group_counts(block.index)}
        counts |= {
            entry.kept_count for each in self._recipes for entry in each.keep_groups if entry.block == block.index
        }
        found: list[int | None] = [None, *sorted((count for count in counts if 1 <= count < full), reverse=True)]
        if self._is_whole:
            return found
        return [kept for kept in found if self._holds.allows_groups(block.index, kept, full)]

    def forms(self, site: SiteSpec) -> list[Form]:
        """One matrix, and the ranks of a site, perhaps narrowed, that were scored."""
        found = [Form(None, "lowrank", "factors", 0.0)]
        for rank, form in self.ranks(site):
            found += [Form(rank, method, form, loss) for method, loss in self._rank_methods(site.name, rank)]
        full = min(site.in_features, site.out_features)
        for edit in self._edits:
            if edit.name != site.name or edit.rank is None or not edit.rank < full:
                continue
            loss = self._problem.quality_model.rank_loss(site.name, edit.rank, edit.method)
            if loss is not None and (wanted := Form(edit.rank, edit.method, edit.form, loss)) not in found:
                found.append(wanted)
        return found

    def ranks(self, site: SiteSpec) -> list[tuple[int, SiteForm]]:
        """Ranks of a site, perhaps narrowed, and the forms they are stored in, ascending."""
        problem, shape = self._problem, (site.in_features, site.out_features)
        named = self._holds.ranks(site)
        found: set[tuple[int, SiteForm]] = set()
        for form in SITE_FORMS if problem.rank_form is None else (problem.rank_form,):
            ladder = rank_ladder(*shape, problem.rank_step, form)
            if problem.rank_form is None and form == "pivot":
                ladder = ladder[:: min(-1, -len(ladder) // MAX_PIVOT_RANKS)]  # the largest, where it saves most
            found |= {(rank, form) for rank in (*ladder, *named)}
        return sorted(found)

    def site_kernels(self, name: str, form: SiteForm = "factors") -> list[str]:
        """How a site may be stored.

        The pivot form in integers is offered only where it is asked for: rounding costs it so much more that fewer bits
        for another form save as much and lose less (on a 14-million-parameter Llama it was taken for 1 site in 3
        budgets, gained 200 bytes and made the search 1.4 times as long).
        """
        edits = [edit for edit in self._edits if edit.name == name]
        named = [edit.kernel for edit in edits if form == "factors" or edit.form == form]
        is_asked_for = self._problem.rank_form == form or self._holds.names_form(name, form)
        kernels = [
            kernel
            for kernel in self.kernels
            if form == "factors" or is_asked_for or parse_kernel(kernel).kind == "float"
        ]
        return [*dict.fromkeys((*kernels, *named))]

    def _rank_methods(self, site: str, rank: int) -> list[tuple[RankMethod, float]]:
        """Looked up once: a site comes again at every width."""
        if (site, rank) not in self._methods:
            self._methods[site, rank] = self._scored_methods(site, rank)
        return self._methods[site, rank]

    def _scored_methods(self, site: str, rank: int) -> list[tuple[RankMethod, float]]:
        """The method that loses least; with a limit on general text each, since another may lose less there."""
        model = self._problem.quality_model
        if self._problem.general_model is None or self._problem.budget.max_general_loss is None:
            best = model.best_rank_method(site, rank)
            return [] if best is None else [best]
        methods: tuple[RankMethod, ...] = ("lowrank", "laser")
        return [(method, loss) for method in methods if (loss := model.rank_loss(site, rank, method)) is not None]
