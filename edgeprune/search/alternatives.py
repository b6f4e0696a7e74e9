"""The options of each choice of a recipe, with figures, margins at the going prices, and reasons.

An option of a site stands for itself. A width, or a number of key-value groups, stands for itself and the best forms of
the sites whose shapes follow it; a set of blocks for itself and the best of everything it leaves, at the going prices.
"""

from collections.abc import Iterable

from msgspec.structs import replace

from edgeprune.schema.explanation import Alternative, Choice, LimitPrice, Standing
from edgeprune.schema.lock import Lock
from edgeprune.schema.model import MLP_ROLES, ModelSpec
from edgeprune.schema.recipe import Drops, SiteEdit
from edgeprune.search.going_prices import GoingPrices
from edgeprune.search.menu import Menu, Taken
from edgeprune.search.reasons import choice_sentence, nats, reason
from edgeprune.search.space import Column, without_dominated
from edgeprune.units import format_bytes, format_seconds

__all__ = ["Alternatives"]


class Alternatives:
    """Options of one recipe's choices."""

    def __init__(
        self,
        menu: Menu,
        taken: Taken,
        going: GoingPrices | None,
        limits: tuple[LimitPrice, ...],
        *,
        is_edited: bool,
    ) -> None:
        """Look at the recipe as a whole once."""
        self._is_edited = is_edited
        self._menu, self._taken, self._going = menu, taken, going
        self._prices = {entry.quantity: entry.nats_per_unit or 0.0 for entry in limits}
        self._rooms = {
            entry.quantity: entry.limit - entry.predicted
            for entry in limits
            if entry.limit is not None and entry.predicted is not None
        }
        self._share = 0.0 if going is None else going.cached_fraction
        prices = [menu.column(at).price for at in taken.columns()]
        known = [menu.space.fixed, *(price for price in prices if price is not None)]
        loading = sum(price.loading_high_bytes for price in known)
        spec = menu.problem.spec
        self._mlp = {site.name for block in spec.blocks for site in block.sites if site.role in MLP_ROLES}
        self._outer = {
            block.index: [site.name for site in block.sites if site.name not in self._mlp] for block in spec.blocks
        }
        self._values: dict[tuple[int, bool], float] = {}
        self._depth: Choice | None = None
        self._peaks_while_loading = loading > sum(price.running_high_bytes for price in known)

    @property
    def drops(self) -> Drops:
        """Blocks and halves the recipe drops."""
        return self._taken.drops

    def is_mlp(self, site: str) -> bool:
        """Whether a site belongs to the MLP."""
        return site in self._mlp

    def is_inner(self, site: str) -> bool:
        """Whether a site's shape follows the width or the groups, whose figures then hold the site's."""
        return site in self._mlp or bool(self._menu.groups[int(site.split(".")[1])])

    def site(self, name: str) -> Choice:
        """Rank and kernel of a site of a kept block."""
        block = int(name.split(".")[1])
        switch = (self._taken.widths if name in self._mlp else self._taken.groups).get(block)
        options = self._menu.site_options(name, switch)
        return self._choice(name, options, self._taken.sites[name], self._menu.holds.of_site(name))

    def tables(self) -> Choice:
        """Kept tokens, and how embedding and head are stored."""
        locks = (*self._menu.holds.of_whole("table"), *self._menu.holds.of_whole("vocabulary"))
        return self._choice("tables", list(self._menu.tables.values()), self._taken.tables, locks)

    def width(self, block: int) -> Choice | None:
        """Channels of a block; None when its MLP is dropped."""
        if block not in self._taken.widths:
            return None
        options = list(self._menu.widths[block].values())
        return self._choice(
            f"block.{block} width", options, self._taken.widths[block], self._menu.holds.of_block(block)
        )

    def groups(self, block: int) -> Choice | None:
        """Key-value groups of a block; None when its attention is dropped or none of them could leave."""
        if block not in self._taken.groups:
            return None
        options = list(self._menu.groups[block].values())
        return self._choice(
            f"block.{block} groups", options, self._taken.groups[block], self._menu.holds.of_groups(block)
        )

    def depth(self) -> Choice:
        """The blocks that are dropped."""
        if self._depth is None:
            locks = self._menu.holds.of_whole("depth")
            self._depth = self._choice("depth", list(self._menu.depth.values()), self._taken.depth, locks)
        return self._depth

    def depth_without(self, block: int) -> str:
        """What speaks for a kept block, or against a dropped one, in words."""
        choice = self.depth()
        is_kept = block not in self._taken.drops.blocks
        others = [
            option
            for option in choice.alternatives
            if (block in (option.drop_blocks or ())) == is_kept and option.standing == "open"
        ]
        if not others:
            return "dropping it was not scored" if is_kept else "every other set of blocks keeps it out too"
        best = others[0]
        if best.margin_nats is None:
            return f"{best.label} loses {nats(best.loss_nats or 0.0)}"
        if best.margin_nats < 0.0:
            gain = nats(-best.margin_nats)
            if self._is_edited:
                return f"{best.label} would be better by up to {gain}"
            return f"{best.label} might be better by up to {gain} if options could be taken in fractions"
        verb = "dropping it" if is_kept else "keeping it"
        return f"{verb} costs at least {nats(best.margin_nats)} more ({best.label})"

    def alone(self, name: str, position: int | None, taken: Taken) -> Alternative:
        """The option some recipe takes, with its own figures only; a width without the sites that follow it."""
        if position is None:
            return self._unscored(name, taken)
        return self._figures(position, [position], "chosen", None)

    def _choice(self, name: str, options: list[int], position: int | None, locks: tuple[Lock, ...]) -> Choice:
        chosen = self._option(position, "chosen", None) if position is not None else self._unscored(name, self._taken)
        beaten = self._beaten(options)
        found = []
        for at in options:
            if at == position:
                continue
            is_open = bool(self._menu.is_open[at])
            standing: Standing = "locked" if not is_open else "beaten" if at in beaten else "open"
            option = self._option(at, standing, chosen.priced_nats)
            if option.drop_blocks is not None and option.standing == "open":
                option = self._bounded(option, at, chosen)
            why = reason(chosen, option, self._prices, misses=self._misses(chosen, option), is_edited=self._is_edited)
            found.append(replace(option, reason=why))
        alternatives = tuple(sorted(found, key=lambda option: _order(chosen, option)))
        closest = next((option for option in alternatives if option.standing == "open"), None)
        sentence = choice_sentence(chosen, closest, locks)
        return Choice(name=name, chosen=chosen, alternatives=alternatives, locks=locks, sentence=sentence)

    def _bounded(self, option: Alternative, position: int, chosen: Alternative) -> Alternative:
        """A set of blocks that looks better at these prices, held to the bound of its own relaxation."""
        if self._going is None or option.margin_nats is None or option.margin_nats > 0.0 or self._is_edited:
            return option
        margin = self._going.branch_margin(position)
        if margin is None:
            return replace(option, standing="infeasible", priced_nats=None, margin_nats=None)
        margin = max(margin, option.margin_nats)
        return replace(option, priced_nats=(chosen.priced_nats or 0.0) + margin, margin_nats=margin)

    def _option(self, position: int, standing: Standing, reference: float | None) -> Alternative:
        return self._figures(
            position, [position, *self._follows(position, is_chosen=standing == "chosen")], standing, reference
        )

    def _figures(self, position: int, pieces: list[int], standing: Standing, reference: float | None) -> Alternative:
        column = self._menu.column(position)
        columns = [self._menu.column(at) for at in pieces]
        priced = self._priced(position, pieces)
        own = None if column.drops is not None else columns
        drops = (None, (), ()) if column.drops is None else column.drops
        times = [None if each.price is None else each.price.decode_high_s(self._share) for each in columns]
        known = [time for time in times if time is not None]
        return Alternative(
            label=_label(column, self._menu.problem.spec),
            standing=standing,
            rank=None if column.site is None else column.site.rank,
            method=None if column.site is None or column.site.rank is None else column.site.method,
            kernel=column.site.kernel
            if column.site is not None
            else None
            if column.tables is None
            else column.tables[1],
            kept_count=_kept_count(column),
            drop_blocks=drops[0],
            drop_attention=drops[1],
            drop_mlp=drops[2],
            loss_nats=sum(each.loss_nats for each in columns),
            disk_bytes=None if own is None else sum(each.price.disk_bytes for each in own if each.price is not None),
            memory_bytes=None if own is None else sum(map(self._memory, own)),
            decode_s=sum(known) if own is not None and len(known) == len(times) else None,
            priced_nats=priced,
            margin_nats=None if priced is None or reference is None else priced - reference,
        )

    def _follows(self, position: int, *, is_chosen: bool) -> list[int]:
        """What a width or number of groups brings: the recipe's own forms of its sites, or the best at the prices."""
        column = self._menu.column(position)
        if column.channels is None and column.groups is None:
            return []
        if is_chosen:
            names = {self._menu.column(options[0]).site for options in self._menu.inner(position)}
            found = [self._taken.sites[site.name] for site in names if site is not None]
            return sorted(at for at in found if at is not None)
        return [min(self._usable(options), key=self._weight) for options in self._menu.inner(position)]

    def _usable(self, options: list[int]) -> list[int]:
        return [at for at in options if self._menu.is_open[at]] or options

    def _weight(self, position: int) -> float:
        if self._going is None:
            return self._menu.column(position).loss_nats
        return float(self._going.priced_nats[position])

    def _priced(self, position: int, pieces: list[int]) -> float | None:
        if self._going is None:
            return None
        column = self._menu.column(position)
        drops = column.drops
        if drops is None:
            return float(sum(self._going.priced_nats[at] for at in pieces))
        kept = [self._attention_value(block) for block in self._menu.widths if not drops.lacks_attention(block)]
        kept += [self._mlp_value(block) for block in self._menu.widths if not drops.lacks_mlp(block)]
        return float(self._going.priced_nats[position]) + sum(kept)

    def _attention_value(self, block: int) -> float:
        """The least a kept attention costs at the going prices."""
        if (block, False) not in self._values:
            counts = list(self._menu.groups[block].values())
            options = [self._menu.site_options(name, None) for name in self._outer[block]]
            self._values[block, False] = self._least_width(counts) if counts else sum(map(self._least, options))
        return self._values[block, False]

    def _mlp_value(self, block: int) -> float:
        """The least a kept MLP costs at the going prices."""
        if (block, True) not in self._values:
            self._values[block, True] = self._least_width(list(self._menu.widths[block].values()))
        return self._values[block, True]

    def _least_width(self, options: list[int]) -> float:
        """The least of widths or numbers of groups, each with the best forms of its sites."""
        return min(self._weight(at) + sum(map(self._least, self._menu.inner(at))) for at in self._usable(options))

    def _least(self, options: list[int]) -> float:
        return min(map(self._weight, self._usable(options)))

    def _memory(self, column: Column) -> float:
        if column.price is None:
            return 0.0
        return column.price.loading_high_bytes if self._peaks_while_loading else column.price.running_high_bytes

    def _beaten(self, options: Iterable[int]) -> set[int]:
        """Open options another open one beats in everything."""
        usable = {id(self._menu.column(at)): at for at in options if self._menu.is_open[at]}
        columns = [self._menu.column(at) for at in usable.values()]
        if not columns or any(column.price is None or column.channels or column.groups for column in columns):
            return set()
        kept = {id(column) for column in without_dominated(columns)}
        return {at for key, at in usable.items() if key not in kept}

    def _misses(self, chosen: Alternative, option: Alternative) -> str | None:
        """Limits that this option in the place of the chosen one would miss, all else as it is."""
        pairs = (
            ("disk", chosen.disk_bytes, option.disk_bytes, format_bytes),
            ("memory", chosen.memory_bytes, option.memory_bytes, format_bytes),
            ("latency", chosen.decode_s, option.decode_s, format_seconds),
        )
        missed = [
            f"{name} by {show(after - before - self._rooms[name])}"
            for name, before, after, show in pairs
            if name in self._rooms and before is not None and after is not None and after - before > self._rooms[name]
        ]
        return " and ".join(missed) or None

    def _unscored(self, name: str, taken: Taken) -> Alternative:
        form = taken.forms.get(name)
        label = "as written" if form is None else _form_label(form)
        return Alternative(
            label=label,
            standing="unscored",
            rank=None if form is None else form.rank,
            kernel=None if form is None else form.kernel,
            loss_nats=None,
            disk_bytes=None,
            memory_bytes=None,
            decode_s=None,
            priced_nats=None,
            margin_nats=None,
        )


def _order(chosen: Alternative, option: Alternative) -> tuple[int, float, str]:
    """Open options first, by margin (by loss where there is none); those worse in loss and in charges after them."""
    rank = {"open": 0, "infeasible": 2, "locked": 3, "beaten": 4}.get(option.standing, 5)
    if option.standing == "open" and _is_worse(chosen, option):
        rank = 1
    measure = option.margin_nats if option.margin_nats is not None else option.loss_nats
    return rank, float("inf") if measure is None else measure, option.label


def _is_worse(chosen: Alternative, option: Alternative) -> bool:
    if option.loss_nats is None or chosen.loss_nats is None or option.margin_nats is None:
        return False
    more = option.loss_nats - chosen.loss_nats
    return more >= 0.0 and option.margin_nats >= more


def _label(column: Column, spec: ModelSpec) -> str:
    if column.drops is not None:
        return f"drop {column.drops}"
    if column.tables is not None:
        kept, kernel = column.tables
        return f"{kernel}, {'all' if kept is None else f'{kept:,}'} tokens"
    if column.channels is not None:
        block, count = column.channels
        full = next(entry.intermediate_size for entry in spec.blocks if entry.index == block)
        return f"all {full:,} channels" if count is None else f"{count:,} channels"
    if column.groups is not None:
        block, count = column.groups
        full = next(entry.num_kv_heads for entry in spec.blocks if entry.index == block)
        return f"all {full} groups" if count is None else f"{count} of {full} groups"
    assert column.site is not None  # a column is one of the five
    return _form_label(column.site)


def _kept_count(column: Column) -> int | None:
    if column.channels is not None or column.groups is not None:
        return (column.channels or column.groups or (0, None))[1]
    return None if column.tables is None else column.tables[0]


def _form_label(form: SiteEdit) -> str:
    if form.rank is None:
        return form.kernel
    method = "" if form.method == "lowrank" else f" {form.method}"
    return f"{form.kernel} rank {form.rank}{method}{'' if form.form == 'factors' else f' {form.form}'}"
