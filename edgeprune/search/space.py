"""The choices a search has, as columns of one integer program.

    depth      one of the scored block sets, or none
    tables     one of (kept tokens, kernel)
    block b    one of the channel counts, unless dropped
    site s     one of (rank, kernel), unless its block is dropped; the sites of an MLP once for each channel count,
               because their shapes and so their prices follow it

Everything is a group of columns of which exactly one is taken; `Column.group` is the group it belongs to and a
group's `parents` are the columns that switch it on (or, negated, off). Options that locks refuse are left out first;
then those another option of the same group beats in every resource and in loss: with them no better recipe exists.
"""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from msgspec.structs import replace

from edgeprune.errors import UsageError
from edgeprune.schema.kernel import FLOAT32
from edgeprune.schema.model import BlockSpec, SiteSpec
from edgeprune.schema.recipe import KeepChannels, KeepTokens, RankMethod, Recipe, SiteEdit
from edgeprune.search.general import general_loss
from edgeprune.search.locks import MLP_ROLES, Holds, refusal
from edgeprune.search.problem import Price, Problem
from edgeprune.shapes import break_even_rank

__all__ = ["Column", "Group", "Space", "build_space", "rank_ladder", "to_recipe"]

MAX_RANKS = 16
MAX_CHANNEL_COUNTS = 8
MAX_DEPTH_OPTIONS = 24
RANK_STEP = 32
SMALL_RANK_STEP = 8
"""For matrices whose break-even rank is below 64, where steps of 32 would leave no choice."""
UNSCORED_KERNELS = frozenset({"dynamic_int8"})
"""Its activations are rounded per tensor at run time, an error calibration does not score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One option: taking it adds its loss and its price."""

    group: int
    loss_nats: float
    price: Price | None
    general_nats: float = 0.0
    """Loss on general text; 0 where nothing limits that."""
    drop_blocks: tuple[int, ...] | None = None
    tables: tuple[int | None, str] | None = None
    """Kept tokens (None: all) and kernel."""
    channels: tuple[int, int | None] | None = None
    """Block and kept count (None: all)."""
    site: SiteEdit | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Exactly one column is taken when the group is switched on, none otherwise.

    It is on when `switch` (a column) is taken; without a switch it is on unless one of the `off` columns is taken.
    """

    switch: int | None = None
    off: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Space:
    """All columns and groups, and what is paid whatever is chosen."""

    columns: tuple[Column, ...]
    groups: tuple[Group, ...]
    fixed: Price
    has_time: bool
    """False when some option's time per token is unknown."""
    is_restricted: bool
    """True when a ladder had to be thinned, so that the optimum is over a subset of what was scored."""


def build_space(problem: Problem) -> Space:
    """All choices of a problem that its locks leave.

    Raises:
        UsageError: a lock matches nothing, or locks leave nothing to choose for some block, site or table.
    """
    builder = _Builder(problem)
    return builder.build()


def rank_ladder(in_features: int, out_features: int) -> list[int]:
    """Ranks that save parameters, at most 16 of them, in equal steps of a multiple of 32 (8 for small matrices)."""
    limit = min(break_even_rank(in_features, out_features), min(in_features, out_features) - 1)
    step = RANK_STEP if limit >= 2 * RANK_STEP else SMALL_RANK_STEP
    while limit // step > MAX_RANKS:
        step += RANK_STEP
    return list(range(step, limit + 1, step))


class _Builder:
    """Collects columns and groups in a fixed order, so that equal inputs give equal programs."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._columns: list[Column] = []
        self._groups: list[Group] = []
        self._is_restricted = False
        self._holds = Holds(problem.spec, problem.locks)
        timed = problem.cost_model.timed_kernels
        self._kernels = [
            kernel
            for kernel in dict.fromkeys((FLOAT32, *problem.scores.kernels))
            if kernel not in UNSCORED_KERNELS and (timed is None or kernel in timed)
        ] or [FLOAT32]

    def build(self) -> Space:
        dropping = self._add_depth()
        self._add_tables()
        for block in self._problem.spec.blocks:
            self._add_block(block, off=dropping.get(block.index, ()))
        prices = [column.price for column in self._columns if column.price is not None]
        return Space(
            columns=tuple(self._columns),
            groups=tuple(self._groups),
            fixed=self._problem.cost_model.fixed_price(),
            has_time=all(price.decode_high_s(0.0) is not None for price in prices),
            is_restricted=self._is_restricted,
        )

    def _group(self, *, switch: int | None = None, off: tuple[int, ...] = ()) -> int:
        self._groups.append(Group(switch=switch, off=off))
        return len(self._groups) - 1

    def _add(self, columns: Iterable[Column]) -> range:
        start = len(self._columns)
        self._columns.extend(_without_dominated(self._elsewhere(columns)))
        return range(start, len(self._columns))

    def _elsewhere(self, columns: Iterable[Column]) -> list[Column]:
        """With their loss on general text where that is limited, without those it was not scored for."""
        model = self._problem.general_model
        if model is None or self._problem.budget.max_general_loss is None:
            return list(columns)
        pairs = [(column, general_loss(model, column)) for column in columns]
        return [dataclasses.replace(column, general_nats=loss) for column, loss in pairs if loss is not None]

    def _add_depth(self) -> dict[int, tuple[int, ...]]:
        """Depth options; gives for each block the columns that drop it."""
        group = self._group()
        best: dict[tuple[int, ...], float] = {(): 0.0}
        for option in self._problem.scores.depth:
            drop = tuple(sorted(option.drop_blocks))
            loss = self._problem.quality_model.depth_loss(drop)
            if loss is not None and len(drop) < len(self._problem.spec.blocks):
                best[drop] = loss
        kept = sorted(filter(self._holds.allows_depth, best), key=lambda drop: (len(drop), best[drop], drop))
        if not kept:
            scored = [" ".join(map(str, drop)) or "none" for drop in sorted(best)]
            raise refusal(self._holds.of_whole("depth"), "the blocks to drop, of which scored are", scored)
        if len(kept) > MAX_DEPTH_OPTIONS:
            # The least loss at each count first: further sets of a count rarely win.
            ranks = {drop: sum(1 for other in kept[: kept.index(drop)] if len(other) == len(drop)) for drop in kept}
            kept = sorted(kept, key=lambda drop: (ranks[drop], len(drop)))[:MAX_DEPTH_OPTIONS]
            self._is_restricted = True
        dropping: dict[int, tuple[int, ...]] = {}
        for column in self._elsewhere(
            Column(group=group, loss_nats=best[drop], price=None, drop_blocks=drop) for drop in kept
        ):
            position = len(self._columns)
            self._columns.append(column)
            for block in column.drop_blocks or ():
                dropping[block] = (*dropping.get(block, ()), position)
        return dropping

    def _add_tables(self) -> None:
        problem, holds = self._problem, self._holds
        group = self._group()
        counts: dict[int | None, float] = {None: 0.0}
        for option in problem.scores.vocabulary:
            loss = problem.quality_model.vocabulary_loss(option.kept_count)
            if loss is not None and option.kept_count < problem.spec.vocab_size:
                counts[option.kept_count] = loss
        for count in holds.token_counts():
            loss = problem.quality_model.vocabulary_loss(count)
            if loss is not None and count < problem.spec.vocab_size:
                counts[count] = loss
        columns = []
        for kept, vocabulary_loss in counts.items():
            for kernel in self._kernels:
                loss = problem.quality_model.kernel_loss("table", kernel)
                if loss is None or not (holds.allows_tokens(kept) and holds.allows_table(kernel)):
                    continue
                size = problem.spec.vocab_size if kept is None else kept
                price = problem.cost_model.table_price(vocab_size=size, kernel=kernel)
                columns.append(
                    Column(group=group, loss_nats=vocabulary_loss + loss, price=price, tables=(kept, kernel))
                )
        if not columns:
            menu = [f"{kept or problem.spec.vocab_size} tokens" for kept in counts] + self._kernels
            raise refusal((*holds.of_whole("table"), *holds.of_whole("vocabulary")), "the tables", menu)
        self._add(columns)

    def _add_block(self, block: BlockSpec, *, off: tuple[int, ...]) -> None:
        for site in block.sites:
            if site.role not in MLP_ROLES:
                columns = self._site_columns(site, self._group(off=off))
                if not columns:
                    raise self._no_form(site)
                self._add(columns)
        group = self._group(off=off)
        # A width at which locks leave some site without a form is no option; its sites would have no column to take.
        widths: list[tuple[Column, list[SiteSpec]]] = []
        for kept in self._channel_counts(block):
            width = block.intermediate_size if kept is None else kept
            loss = 0.0 if kept is None else self._problem.quality_model.channel_loss(block.index, kept)
            sites = [narrowed for site in block.sites if (narrowed := _narrow(site, kept)) is not None]
            if loss is not None and all(map(self._has_form, sites)):
                price = self._problem.cost_model.block_price(replace(block, intermediate_size=width))
                column = Column(group=group, loss_nats=loss, price=price, channels=(block.index, kept))
                widths += [(column, sites) for column in self._elsewhere([column])]
        if not widths:
            raise self._no_width(block)
        switches = range(len(self._columns), len(self._columns) + len(widths))
        self._columns.extend(column for column, _ in widths)
        for switch, (_, sites) in zip(switches, widths, strict=True):
            for site in sites:
                self._add(self._site_columns(site, self._group(switch=switch)))

    def _channel_counts(self, block: BlockSpec) -> list[int | None]:
        position = [other.index for other in self._problem.spec.blocks].index(block.index)
        scored = self._problem.scores.channel_counts
        counts = (
            [count for count in scored[position] if count < block.intermediate_size] if position < len(scored) else []
        )
        named = [count for count in self._holds.channel_counts(block.index) if count < block.intermediate_size]
        counts = [
            count
            for count in sorted({*counts, *named})
            if self._holds.allows_channels(block.index, count, block.intermediate_size)
        ]
        if len(counts) > MAX_CHANNEL_COUNTS:
            stride = (len(counts) - 1) / (MAX_CHANNEL_COUNTS - 1)
            counts = [counts[round(index * stride)] for index in range(MAX_CHANNEL_COUNTS)]
            self._is_restricted = True
        whole = [None] if self._holds.allows_channels(block.index, None, block.intermediate_size) else []
        return [*whole, *sorted(counts, reverse=True)]

    def _has_form(self, site: SiteSpec) -> bool:
        return not self._holds.of_site(site.name) or bool(self._site_columns(site, 0))

    def _no_form(self, site: SiteSpec) -> UsageError:
        ranks = [f"rank {rank}" for rank in rank_ladder(site.in_features, site.out_features)]
        return refusal(self._holds.of_site(site.name), site.name, ["dense", *ranks, *self._kernels])

    def _no_width(self, block: BlockSpec) -> UsageError:
        """Which of the block's locks leave nothing: a form of one of its MLP sites, or the width itself."""
        for site in block.sites:
            if site.role in MLP_ROLES and not self._site_columns(site, 0):
                return self._no_form(site)
        position = [other.index for other in self._problem.spec.blocks].index(block.index)
        scored = self._problem.scores.channel_counts
        menu = [f"{count} channels" for count in (scored[position] if position < len(scored) else ())]
        sites = [lock for site in block.sites if site.role in MLP_ROLES for lock in self._holds.of_site(site.name)]
        locks = tuple(dict.fromkeys((*self._holds.of_block(block.index), *sites)))
        return refusal(locks, f"the width of block {block.index}", [*menu, f"all {block.intermediate_size}"])

    def _rank_methods(self, site: str, rank: int) -> list[tuple[RankMethod, float]]:
        """The method that loses least; with a limit on general text each, since another may lose less there."""
        model = self._problem.quality_model
        if self._problem.general_model is None or self._problem.budget.max_general_loss is None:
            best = model.best_rank_method(site, rank)
            return [] if best is None else [best]
        methods: tuple[RankMethod, ...] = ("lowrank", "laser")
        return [(method, loss) for method in methods if (loss := model.rank_loss(site, rank, method)) is not None]

    def _site_columns(self, site: SiteSpec, group: int) -> list[Column]:
        problem = self._problem
        columns = []
        forms: list[tuple[int | None, RankMethod, float]] = [(None, "lowrank", 0.0)]
        for step in sorted({*rank_ladder(site.in_features, site.out_features), *self._holds.ranks(site)}):
            forms += [(step, method, loss) for method, loss in self._rank_methods(site.name, step)]
        for rank, method, rank_loss in forms:
            for kernel in self._kernels:
                kernel_loss = problem.quality_model.kernel_loss(site.name, kernel, is_factored=rank is not None)
                if kernel_loss is None or not self._holds.allows_site(site, rank, kernel):
                    continue
                columns.append(
                    Column(
                        group=group,
                        loss_nats=rank_loss + kernel_loss,
                        price=problem.cost_model.site_price(site, kernel=kernel, rank=rank),
                        site=SiteEdit(name=site.name, kernel=kernel, rank=rank, method=method),
                    )
                )
        return columns


def to_recipe(problem: Problem, taken: Iterable[Column], *, technique: str = "auto") -> Recipe:
    """The recipe that these columns stand for; sites left dense in float32 are not listed."""
    drop: tuple[int, ...] = ()
    tokens: KeepTokens | None = None
    table_kernel = FLOAT32
    channels: list[KeepChannels] = []
    sites: list[SiteEdit] = []
    for column in taken:
        if column.drop_blocks is not None:
            drop = column.drop_blocks
        elif column.tables is not None:
            kept, table_kernel = column.tables
            tokens = None if kept is None else KeepTokens(kept_count=kept)
        elif column.channels is not None and column.channels[1] is not None:
            channels.append(KeepChannels(block=column.channels[0], kept_count=column.channels[1]))
        elif column.site is not None and (column.site.kernel != FLOAT32 or column.site.rank is not None):
            sites.append(column.site)
    return Recipe(
        model_hash=problem.spec.model_hash,
        technique=technique,
        context_tokens=problem.context_tokens,
        seed=problem.seed,
        drop_blocks=drop,
        keep_tokens=tokens,
        keep_channels=tuple(channels),
        table_kernel=table_kernel,
        sites=tuple(sites),
    )


def _narrow(site: SiteSpec, kept: int | None) -> SiteSpec | None:
    """An MLP site with that many channels; None for other sites."""
    if site.role not in ("gate", "up", "down"):
        return None
    if kept is None:
        return site
    return replace(site, in_features=kept) if site.role == "down" else replace(site, out_features=kept)


def _without_dominated(columns: list[Column]) -> list[Column]:
    """Columns of one group that no other one beats or equals in loss and in every resource; order kept."""
    keys = [_resources(column) for column in columns]
    order = sorted(range(len(columns)), key=lambda index: (keys[index], index))
    kept: list[int] = []
    for index in order:
        if not any(all(a <= b for a, b in zip(keys[other], keys[index], strict=True)) for other in kept):
            kept.append(index)
    return [columns[index] for index in sorted(kept)]


def _resources(column: Column) -> tuple[float, ...]:
    price = column.price
    assert price is not None  # only priced columns are compared
    cached, streaming = price.decode_high_s(1.0), price.decode_high_s(0.0)
    return (
        column.loss_nats,
        column.general_nats,
        0.0 if cached is None else cached,
        0.0 if streaming is None else streaming,
        float(price.disk_bytes),
        price.loading_high_bytes,
        price.running_high_bytes,
        float(price.working_set_bytes),
    )
