"""The choices a search has, as columns of one integer program.

    depth      one of the scored block sets, repaired or not, or none
    tables     one of (kept tokens, kernel)
    block b    one of the channel counts, and one of the numbers of key-value groups, unless dropped
    site s     one of (rank, kernel), unless its block is dropped; the sites of an MLP once for each channel count,
               those of an attention once for each number of groups, because their shapes and so their prices follow it

Everything is a group of columns of which exactly one is taken; `Column.group` is the group it belongs to and a
group's `parents` are the columns that switch it on (or, negated, off). Options that locks refuse are left out first;
then those another option of the same group beats in loss and in every resource that the budget may limit: with them no
better recipe exists.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from msgspec.structs import replace

from edgeprune.errors import UsageError
from edgeprune.schema.kernel import FLOAT32
from edgeprune.schema.model import MLP_ROLES, SITE_FORMS, BlockSpec, SiteSpec
from edgeprune.schema.recipe import Drops, KeepChannels, KeepGroups, KeepTokens, Recipe, Repair, SiteEdit
from edgeprune.search.dominance import undominated
from edgeprune.search.general import general_loss
from edgeprune.search.joint_price import JointPrice
from edgeprune.search.ladders import Ladders
from edgeprune.search.locks import Holds, refusal
from edgeprune.search.problem import Price, Problem
from edgeprune.search.resources import Paid, compared
from edgeprune.shapes import attention_only, mlp_only, with_groups

__all__ = ["Column", "Group", "Space", "build_menu", "build_space", "narrowed_site", "to_recipe", "without_dominated"]

PaidBy: TypeAlias = dict[int, tuple[Price, tuple[float, ...]]]
"""Identity of a price -> the price, held so that its identity stays its own, and what it takes of the resources."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One option: taking it adds its loss and its price."""

    group: int
    loss_nats: float
    price: Price | None
    general_nats: float = 0.0
    """Loss on general text; 0 where nothing limits that."""
    drops: Drops | None = None
    tables: tuple[int | None, str] | None = None
    """Kept tokens (None: all) and kernel."""
    channels: tuple[int, int | None] | None = None
    """Block and kept count (None: all)."""
    groups: tuple[int, int | None] | None = None
    """Block and kept key-value groups (None: all)."""
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
    decode_tokens: int
    """Decoded by a request after its prompt."""
    is_restricted: bool
    """True when a ladder had to be thinned, so that the optimum is over a subset of what was scored."""


def build_space(problem: Problem) -> Space:
    """All choices of a problem that its locks leave.

    Raises:
        UsageError: a lock matches nothing, or locks leave nothing to choose for some block, site or table.
    """
    return _Builder(problem, None).build()


def build_menu(problem: Problem, recipes: Sequence[Recipe]) -> Space:
    """All choices of a problem, also those that locks refuse or others beat, and those that these recipes make.

    Raises:
        UsageError: a lock matches nothing.
    """
    return _Builder(problem, recipes).build()


class _Builder:
    """Collects columns and groups in a fixed order, so that equal inputs give equal programs."""

    def __init__(self, problem: Problem, recipes: Sequence[Recipe] | None) -> None:
        self._problem = problem
        self._is_whole = recipes is not None
        self._columns: list[Column] = []
        self._paid: PaidBy = {}
        self._compared = compared(problem.budget)
        self._groups: list[Group] = []
        self._joints: dict[tuple[int, int], JointPrice] = {}
        self._holds = Holds(problem.spec, problem.locks)
        self._ladders = Ladders(problem, self._holds, recipes=recipes)

    def build(self) -> Space:
        sets = self._add_depth()
        self._add_tables()
        for block in self._problem.spec.blocks:
            without_attention = tuple(at for at, drops in sets.items() if drops.lacks_attention(block.index))
            self._add_attention(block, off=without_attention)
            without_mlp = tuple(at for at, drops in sets.items() if drops.lacks_mlp(block.index))
            self._add_mlp(block, off=without_mlp)
        prices = {id(column.price): column.price for column in self._columns if column.price is not None}.values()
        return Space(
            columns=tuple(self._columns),
            groups=tuple(self._groups),
            fixed=self._problem.cost_model.fixed_price(),
            has_time=all(price.decode_high_s(0.0) is not None for price in prices),
            decode_tokens=self._problem.decode_tokens,
            is_restricted=self._ladders.is_restricted,
        )

    def _group(self, *, switch: int | None = None, off: tuple[int, ...] = ()) -> int:
        self._groups.append(Group(switch=switch, off=off))
        return len(self._groups) - 1

    def _add(self, columns: Iterable[Column]) -> range:
        start = len(self._columns)
        found = self._elsewhere(columns)
        self._columns.extend(
            found if self._is_whole else without_dominated(found, self._paid, resources=self._compared)
        )
        return range(start, len(self._columns))

    def _elsewhere(self, columns: Iterable[Column]) -> list[Column]:
        """With their loss on general text where that is limited, without those it was not scored for."""
        model = self._problem.general_model
        if model is None or self._problem.budget.max_general_loss is None:
            return list(columns)
        pairs = [(column, general_loss(model, column)) for column in columns]
        return [dataclasses.replace(column, general_nats=loss) for column, loss in pairs if loss is not None]

    def _add_depth(self) -> dict[int, Drops]:
        """Depth options; column -> what it drops."""
        group = self._group()
        losses = self._ladders.depth()
        if not losses:
            scored = [str(drops) for drops in sorted(self._ladders.scored_depth())]
            raise refusal(self._holds.of_whole("depth"), "the blocks to drop, of which scored are", scored)
        columns = self._elsewhere(
            Column(group=group, loss_nats=loss, price=self._repair_price(drops), drops=drops)
            for drops, loss in losses.items()
        )
        start = len(self._columns)
        self._columns.extend(columns)
        return {at: column.drops for at, column in enumerate(columns, start) if column.drops is not None}

    def _repair_price(self, drops: Drops) -> Price | None:
        ranks = [rank for _, rank in drops.repairs]
        return self._problem.cost_model.repair_price(ranks) if ranks else None

    def _add_tables(self) -> None:
        problem, holds = self._problem, self._holds
        group = self._group()
        counts = self._ladders.token_counts()
        columns = []
        for kept, vocabulary_loss in counts.items():
            for kernel in self._ladders.table_kernels():
                loss = problem.quality_model.kernel_loss("table", kernel)
                is_open = self._is_whole or (holds.allows_tokens(kept) and holds.allows_table(kernel))
                if loss is None or not is_open:
                    continue
                size = problem.spec.vocab_size if kept is None else kept
                price = problem.cost_model.table_price(vocab_size=size, kernel=kernel)
                columns.append(
                    Column(group=group, loss_nats=vocabulary_loss + loss, price=price, tables=(kept, kernel))
                )
        if not columns:
            menu = [f"{kept or problem.spec.vocab_size} tokens" for kept in counts] + self._ladders.kernels
            raise refusal((*holds.of_whole("table"), *holds.of_whole("vocabulary")), "the tables", menu)
        self._add(columns)

    def _add_attention(self, block: BlockSpec, *, off: tuple[int, ...]) -> None:
        """Numbers of key-value groups with what the attention costs beside its sites, and the sites at each number.

        Where all groups stay, there is nothing to choose and one group of columns less: what the attention costs beside
        its sites stands with the last one, its output projection.
        """
        counts = self._ladders.groups(block)
        if counts != [None]:
            self._add_groups(block, counts, off=off)
            return
        half = self._problem.cost_model.block_price(attention_only(self._problem.spec, block))
        sites = [site for site in block.sites if site.role not in MLP_ROLES]
        for site in sites:
            columns = self._site_columns(site, self._group(off=off), beside=half if site is sites[-1] else None)
            if not columns:
                raise self._no_form(site)
            self._add(columns)

    def _add_groups(self, block: BlockSpec, counts: list[int | None], *, off: tuple[int, ...]) -> None:
        group = self._group(off=off)
        widths: list[tuple[Column, list[SiteSpec]]] = []
        for kept in counts:
            half = attention_only(self._problem.spec, with_groups(block, kept))
            loss = 0.0 if kept is None else self._problem.quality_model.group_loss(block.index, kept)
            if loss is not None and all(map(self._has_form, half.sites)):
                price = self._problem.cost_model.block_price(half)
                column = Column(group=group, loss_nats=loss, price=price, groups=(block.index, kept))
                widths += [(column, list(half.sites)) for column in self._elsewhere([column])]
        if not widths:
            raise self._no_groups(block)
        self._add_widths(widths)

    def _add_mlp(self, block: BlockSpec, *, off: tuple[int, ...]) -> None:
        """Widths with what the MLP costs beside its sites, and the sites at each width."""
        half = mlp_only(self._problem.spec, block)
        group = self._group(off=off)
        # A width at which locks leave some site without a form is no option; its sites would have no column to take.
        widths: list[tuple[Column, list[SiteSpec]]] = []
        for kept in self._ladders.widths(block):
            width = block.intermediate_size if kept is None else kept
            loss = 0.0 if kept is None else self._problem.quality_model.channel_loss(block.index, kept)
            sites = [narrowed for site in block.sites if (narrowed := narrowed_site(site, kept)) is not None]
            if loss is not None and all(map(self._has_form, sites)):
                price = self._problem.cost_model.block_price(replace(half, intermediate_size=width))
                column = Column(group=group, loss_nats=loss, price=price, channels=(block.index, kept))
                widths += [(column, sites) for column in self._elsewhere([column])]
        if not widths:
            raise self._no_width(block)
        self._add_widths(widths)

    def _add_widths(self, widths: list[tuple[Column, list[SiteSpec]]]) -> None:
        """Columns of one group, and for each the sites it switches on."""
        switches = range(len(self._columns), len(self._columns) + len(widths))
        self._columns.extend(column for column, _ in widths)
        for switch, (_, sites) in zip(switches, widths, strict=True):
            for site in sites:
                self._add(self._site_columns(site, self._group(switch=switch)))

    def _joint(self, price: Price, beside: Price) -> JointPrice:
        return self._joints.setdefault((id(price), id(beside)), JointPrice(price, beside))

    def _has_form(self, site: SiteSpec) -> bool:
        return self._is_whole or not self._holds.of_site(site.name) or bool(self._site_columns(site, 0))

    def _no_form(self, site: SiteSpec) -> UsageError:
        ranks = [f"rank {rank}" for rank in sorted({rank for rank, _ in self._ladders.ranks(site)})]
        return refusal(self._holds.of_site(site.name), site.name, ["dense", *ranks, *self._ladders.kernels])

    def _no_width(self, block: BlockSpec) -> UsageError:
        """Which of the block's locks leave nothing: a form of one of its MLP sites, or the width itself."""
        for site in block.sites:
            if site.role in MLP_ROLES and not self._site_columns(site, 0):
                return self._no_form(site)
        menu = [f"{count} channels" for count in self._ladders.scored_widths(block)]
        sites = [lock for site in block.sites if site.role in MLP_ROLES for lock in self._holds.of_site(site.name)]
        locks = tuple(dict.fromkeys((*self._holds.of_block(block.index), *sites)))
        return refusal(locks, f"the width of block {block.index}", [*menu, f"all {block.intermediate_size}"])

    def _no_groups(self, block: BlockSpec) -> UsageError:
        for site in block.sites:
            if site.role not in MLP_ROLES and not self._site_columns(site, 0):
                return self._no_form(site)
        menu = [f"{count} groups" for count in self._ladders.scored_groups(block)]
        sites = [lock for site in block.sites if site.role not in MLP_ROLES for lock in self._holds.of_site(site.name)]
        locks = tuple(dict.fromkeys((*self._holds.of_groups(block.index), *sites)))
        return refusal(locks, f"the groups of block {block.index}", [*menu, f"all {block.num_kv_heads}"])

    def _site_columns(self, site: SiteSpec, group: int, *, beside: Price | None = None) -> list[Column]:
        problem = self._problem
        columns = []
        is_free = self._is_whole or not self._holds.of_site(site.name)
        shapes = {form: site if form == site.form else replace(site, form=form) for form in SITE_FORMS}
        kernels = {form: self._ladders.site_kernels(site.name, form) for form in SITE_FORMS}
        losses = {
            (form, kernel): problem.quality_model.kernel_loss(site.name, kernel, form=form)
            for form in (None, *SITE_FORMS)
            for kernel in kernels[form or "factors"]
        }
        for rank, method, form, rank_loss in self._ladders.forms(site):
            for kernel in kernels[form]:
                kernel_loss = losses[None if rank is None else form, kernel]
                edit = SiteEdit(name=site.name, kernel=kernel, rank=rank, method=method, form=form)
                if kernel_loss is None or not (is_free or self._holds.allows_site(site, edit)):
                    continue
                price = problem.cost_model.site_price(shapes[form], kernel=kernel, rank=rank)
                columns.append(
                    Column(
                        group=group,
                        loss_nats=rank_loss + kernel_loss,
                        price=price if beside is None else self._joint(price, beside),
                        site=edit,
                    )
                )
        return columns


def to_recipe(problem: Problem, taken: Iterable[Column], *, technique: str = "auto") -> Recipe:
    """The recipe that these columns stand for; sites left dense in float32 are not listed."""
    drops = Drops()
    tokens: KeepTokens | None = None
    table_kernel = FLOAT32
    channels: list[KeepChannels] = []
    groups: list[KeepGroups] = []
    sites: list[SiteEdit] = []
    for column in taken:
        if column.drops is not None:
            drops = column.drops
        elif column.tables is not None:
            kept, table_kernel = column.tables
            tokens = None if kept is None else KeepTokens(kept_count=kept)
        elif column.channels is not None and column.channels[1] is not None:
            criterion = problem.scores.channel_criterion
            entry = KeepChannels(block=column.channels[0], kept_count=column.channels[1], criterion=criterion)
            channels.append(entry)
        elif column.groups is not None and column.groups[1] is not None:
            groups.append(KeepGroups(block=column.groups[0], kept_count=column.groups[1]))
        elif column.site is not None and (column.site.kernel != FLOAT32 or column.site.rank is not None):
            sites.append(column.site)
    return Recipe(
        model_hash=problem.spec.model_hash,
        technique=technique,
        context_tokens=problem.context_tokens,
        seed=problem.seed,
        drop_blocks=drops.blocks,
        drop_attention=drops.attention,
        drop_mlp=drops.mlp,
        repairs=tuple(Repair(block=block, rank=rank) for block, rank in drops.repairs),
        keep_tokens=tokens,
        keep_channels=tuple(channels),
        keep_groups=tuple(groups),
        table_kernel=table_kernel,
        sites=tuple(sites),
        rounding=problem.scores.rounding,
        kv_bits=8 if problem.spec.kv_bits == 8 else 32,
    )


def narrowed_site(site: SiteSpec, kept: int | None) -> SiteSpec | None:
    """An MLP site with that many channels; None for other sites."""
    if site.role not in ("gate", "up", "down"):
        return None
    if kept is None:
        return site
    return replace(site, in_features=kept) if site.role == "down" else replace(site, out_features=kept)


def without_dominated(
    columns: list[Column], paid: PaidBy | None = None, *, resources: Sequence[int] = range(len(Paid._fields))
) -> list[Column]:
    """Columns of one group that no other one beats or equals in loss and in the resources; order kept.

    Args:
        columns: with prices.
        paid: what was read of prices for columns of other groups with the same ones.
        resources: which are compared, as positions in `Paid`; all of them where a budget may limit anything.
    """
    if not columns:
        return []
    paid = {} if paid is None else paid
    keys = []
    for column in columns:
        price = column.price
        assert price is not None  # only priced columns are compared
        if id(price) not in paid:
            amounts = Paid.of(price)
            paid[id(price)] = price, tuple(amounts[position] or 0.0 for position in resources)
        keys.append((column.loss_nats, column.general_nats, *paid[id(price)][1]))
    kept = undominated(np.array(keys))
    return [columns[index] for index in kept]
