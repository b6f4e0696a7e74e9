"""The whole menu of a search by name: which columns each choice has, which a recipe takes, which the locks leave."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeprune.schema.kernel import FLOAT32
from edgeprune.schema.model import MLP_ROLES, BlockSpec, SiteSpec
from edgeprune.schema.recipe import Drops, Recipe, SiteEdit
from edgeprune.search.locks import Holds
from edgeprune.search.problem import Problem
from edgeprune.search.space import Column, build_menu, narrowed_site
from edgeprune.shapes import with_groups

__all__ = ["Menu", "Taken"]


@dataclass(frozen=True, kw_only=True)
class Taken:
    """The columns a recipe takes; None where it does what was never scored."""

    drops: Drops
    """Blocks and halves that go."""
    depth: int | None
    tables: int | None
    widths: dict[int, int | None]
    """Block with an MLP -> column."""
    groups: dict[int, int | None]
    """Block with an attention whose groups are a choice -> column."""
    sites: dict[str, int | None]
    """Kept site -> column."""
    forms: dict[str, SiteEdit]
    """Kept site -> its form, scored or not."""

    def columns(self) -> tuple[int, ...]:
        """All that are known."""
        every = (self.depth, self.tables, *self.widths.values(), *self.groups.values(), *self.sites.values())
        return tuple(position for position in every if position is not None)


class Menu:
    """All options of a problem, and those that some recipes make besides."""

    def __init__(self, problem: Problem, recipes: Sequence[Recipe]) -> None:
        """Lay them out.

        Raises:
            UsageError: a lock matches nothing.
        """
        self.problem = problem
        self.space = build_menu(problem, recipes)
        self.holds = Holds(problem.spec, problem.locks)
        self.depth: dict[Drops, int] = {}
        """Dropped blocks and halves -> column."""
        self.tables: dict[tuple[int | None, str], int] = {}
        """Kept tokens and kernel -> column."""
        self.widths: dict[int, dict[int | None, int]] = {block.index: {} for block in problem.spec.blocks}
        """Block -> kept channels -> column."""
        self.groups: dict[int, dict[int | None, int]] = {block.index: {} for block in problem.spec.blocks}
        """Block -> kept key-value groups -> column; empty where they are no choice."""
        self._sites: dict[tuple[str, int | None], list[int]] = {}
        for position, column in enumerate(self.space.columns):
            if column.drops is not None:
                self.depth[column.drops] = position
            elif column.tables is not None:
                self.tables[column.tables] = position
            elif column.channels is not None:
                self.widths[column.channels[0]][column.channels[1]] = position
            elif column.groups is not None:
                self.groups[column.groups[0]][column.groups[1]] = position
            elif column.site is not None:
                switch = self.space.groups[column.group].switch
                self._sites.setdefault((column.site.name, switch), []).append(position)
        self._inner: dict[int, list[list[int]]] = {}
        for (_, switch), options in self._sites.items():
            if switch is not None:
                self._inner.setdefault(switch, []).append(options)
        self.is_open: NDArray[np.bool_] = self._open()
        """[columns] whether locks leave it."""

    def column(self, position: int) -> Column:
        """One column."""
        return self.space.columns[position]

    def site_options(self, name: str, width: int | None) -> list[int]:
        """Columns of a site; where its shape follows one, at a column of `widths` or `groups`."""
        return self._sites.get((name, None)) or self._sites.get((name, width), [])

    def inner(self, width: int) -> list[list[int]]:
        """For each site whose shape follows a width, its columns there."""
        return self._inner.get(width, [])

    def taken(self, recipe: Recipe) -> Taken:
        """What a recipe that fits the model takes."""
        spec = self.problem.spec
        counts = {entry.block: entry.kept_count for entry in recipe.keep_channels}
        group_counts = {entry.block: entry.kept_count for entry in recipe.keep_groups}
        edits = {edit.name: edit for edit in recipe.sites}
        drops = recipe.drops
        widths: dict[int, int | None] = {}
        groups: dict[int, int | None] = {}
        sites: dict[str, int | None] = {}
        forms: dict[str, SiteEdit] = {}
        for block in spec.blocks:
            count = counts.get(block.index, block.intermediate_size)
            width = self.widths[block.index].get(None if count == block.intermediate_size else count)
            if not drops.lacks_mlp(block.index):
                widths[block.index] = width
            kept_groups = group_counts.get(block.index, block.num_kv_heads)
            group = self.groups[block.index].get(None if kept_groups == block.num_kv_heads else kept_groups)
            if self.groups[block.index] and not drops.lacks_attention(block.index):
                groups[block.index] = group
            for site in block.sites:
                is_mlp = site.role in MLP_ROLES
                if (drops.lacks_mlp if is_mlp else drops.lacks_attention)(block.index):
                    continue
                switch = width if is_mlp else group
                form = edits.get(site.name, SiteEdit(name=site.name, kernel=FLOAT32))
                forms[site.name] = form
                found = [at for at in self.site_options(site.name, switch) if _is_form(self.column(at).site, form)]
                sites[site.name] = found[0] if found else None
        kept = None if recipe.keep_tokens is None else recipe.keep_tokens.kept_count
        return Taken(
            drops=drops,
            depth=self.depth.get(drops),
            tables=self.tables.get((None if kept == spec.vocab_size else kept, recipe.table_kernel)),
            widths=widths,
            groups=groups,
            sites=sites,
            forms=forms,
        )

    def _open(self) -> NDArray[np.bool_]:
        holds, spec = self.holds, self.problem.spec
        widths = {block.index: block.intermediate_size for block in spec.blocks}
        counts = {block.index: block.num_kv_heads for block in spec.blocks}
        blocks = {site.name: block for block in spec.blocks for site in block.sites}

        def is_open(column: Column) -> bool:
            if column.drops is not None:
                return holds.allows_depth(column.drops)
            if column.tables is not None:
                return holds.allows_tokens(column.tables[0]) and holds.allows_table(column.tables[1])
            if column.channels is not None:
                block, kept = column.channels
                return holds.allows_channels(block, kept, widths[block])
            if column.groups is not None:
                block, kept = column.groups
                return holds.allows_groups(block, kept, counts[block])
            assert column.site is not None  # a column is one of the five
            switch = self.space.groups[column.group].switch
            beside = None if switch is None else self.column(switch)
            shape = _shape(blocks[column.site.name], column.site.name, beside)
            return holds.allows_site(shape, column.site)

        return np.array([is_open(column) for column in self.space.columns], dtype=bool)


def _shape(block: BlockSpec, name: str, switch: Column | None) -> SiteSpec:
    """A site as wide as the column that switches it on makes it."""
    grouped = block if switch is None or switch.groups is None else with_groups(block, switch.groups[1])
    site = next(site for site in grouped.sites if site.name == name)
    if switch is None or switch.channels is None:
        return site
    return narrowed_site(site, switch.channels[1]) or site


def _is_form(found: SiteEdit | None, wanted: SiteEdit) -> bool:
    if found is None or (found.kernel, found.rank) != (wanted.kernel, wanted.rank):
        return False
    return wanted.rank is None or (found.method, found.form) == (wanted.method, wanted.form)
