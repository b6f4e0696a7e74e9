"""The choices a search has, as columns of one integer program.

    depth      one of the scored block sets, or none
    tables     one of (kept tokens, kernel)
    block b    one of the channel counts, unless dropped
    site s     one of (rank, kernel), unless its block is dropped; the sites of an MLP once for each channel count,
               because their shapes and so their prices follow it

Everything is a group of columns of which exactly one is taken; `Column.group` is the group it belongs to and a
group's `parents` are the columns that switch it on (or, negated, off). Options another option of the same group beats
in every resource and in loss are left out: with them no better recipe exists.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from msgspec.structs import replace

from edgeprune.schema.kernel import FLOAT32
from edgeprune.schema.model import BlockSpec, SiteSpec
from edgeprune.schema.recipe import KeepChannels, KeepTokens, RankMethod, Recipe, SiteEdit
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
    """All choices of a problem."""
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
        self._columns.extend(_without_dominated(list(columns)))
        return range(start, len(self._columns))

    def _add_depth(self) -> dict[int, tuple[int, ...]]:
        """Depth options; gives for each block the columns that drop it."""
        group = self._group()
        best: dict[tuple[int, ...], float] = {(): 0.0}
        for option in self._problem.scores.depth:
            drop = tuple(sorted(option.drop_blocks))
            loss = self._problem.quality_model.depth_loss(drop)
            if loss is not None and len(drop) < len(self._problem.spec.blocks):
                best[drop] = loss
        kept = sorted(best, key=lambda drop: (len(drop), best[drop], drop))
        if len(kept) > MAX_DEPTH_OPTIONS:
            # The least loss at each count first: further sets of a count rarely win.
            ranks = {drop: sum(1 for other in kept[: kept.index(drop)] if len(other) == len(drop)) for drop in kept}
            kept = sorted(kept, key=lambda drop: (ranks[drop], len(drop)))[:MAX_DEPTH_OPTIONS]
            self._is_restricted = True
        dropping: dict[int, tuple[int, ...]] = {}
        for drop in kept:
            position = len(self._columns)
            self._columns.append(Column(group=group, loss_nats=best[drop], price=None, drop_blocks=drop))
            for block in drop:
                dropping[block] = (*dropping.get(block, ()), position)
        return dropping

    def _add_tables(self) -> None:
        problem = self._problem
        group = self._group()
        counts: dict[int | None, float] = {None: 0.0}
        for option in problem.scores.vocabulary:
            loss = problem.quality_model.vocabulary_loss(option.kept_count)
            if loss is not None and option.kept_count < problem.spec.vocab_size:
                counts[option.kept_count] = loss
        columns = []
        for kept, vocabulary_loss in counts.items():
            for kernel in self._kernels:
                loss = problem.quality_model.kernel_loss("table", kernel)
                if loss is None:
                    continue
                size = problem.spec.vocab_size if kept is None else kept
                price = problem.cost_model.table_price(vocab_size=size, kernel=kernel)
                columns.append(
                    Column(group=group, loss_nats=vocabulary_loss + loss, price=price, tables=(kept, kernel))
                )
        self._add(columns)

    def _add_block(self, block: BlockSpec, *, off: tuple[int, ...]) -> None:
        for site in block.sites:
            if site.role not in ("gate", "up", "down"):
                group = self._group(off=off)
                self._add(self._site_columns(site, group))
        group = self._group(off=off)
        switches: list[tuple[int, int | None]] = []
        for kept in self._channel_counts(block):
            width = block.intermediate_size if kept is None else kept
            loss = 0.0 if kept is None else self._problem.quality_model.channel_loss(block.index, kept)
            if loss is None:
                continue
            price = self._problem.cost_model.block_price(replace(block, intermediate_size=width))
            switches.append((len(self._columns), kept))
            self._columns.append(Column(group=group, loss_nats=loss, price=price, channels=(block.index, kept)))
        for switch, kept in switches:
            for site in block.sites:
                narrowed = _narrow(site, kept)
                if narrowed is not None:
                    group = self._group(switch=switch)
                    self._add(self._site_columns(narrowed, group))

    def _channel_counts(self, block: BlockSpec) -> list[int | None]:
        position = [other.index for other in self._problem.spec.blocks].index(block.index)
        scored = self._problem.scores.channel_counts
        counts = (
            [count for count in scored[position] if count < block.intermediate_size] if position < len(scored) else []
        )
        if len(counts) > MAX_CHANNEL_COUNTS:
            stride = (len(counts) - 1) / (MAX_CHANNEL_COUNTS - 1)
            counts = [counts[round(index * stride)] for index in range(MAX_CHANNEL_COUNTS)]
            self._is_restricted = True
        return [None, *sorted(counts, reverse=True)]

    def _site_columns(self, site: SiteSpec, group: int) -> list[Column]:
        problem = self._problem
        columns = []
        forms: list[tuple[int | None, RankMethod, float]] = [(None, "lowrank", 0.0)]
        for step in rank_ladder(site.in_features, site.out_features):
            scored = problem.quality_model.best_rank_method(site.name, step)
            if scored is not None:
                forms.append((step, *scored))
        for rank, method, rank_loss in forms:
            for kernel in self._kernels:
                kernel_loss = problem.quality_model.kernel_loss(site.name, kernel, is_factored=rank is not None)
                if kernel_loss is None:
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
        0.0 if cached is None else cached,
        0.0 if streaming is None else streaming,
        float(price.disk_bytes),
        price.loading_high_bytes,
        price.running_high_bytes,
        float(price.working_set_bytes),
    )
