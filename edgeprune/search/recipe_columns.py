"""Which columns of a space a recipe takes, so that a search can leave that recipe out."""

from edgeprune.schema.kernel import FLOAT32
from edgeprune.schema.recipe import Recipe, SiteEdit
from edgeprune.search.space import Column, Space

__all__ = ["columns_of"]


def columns_of(space: Space, recipe: Recipe) -> tuple[int, ...] | None:
    """The columns a recipe takes; None where the space lacks one, so that no search over it finds the recipe."""
    edits = {edit.name: edit for edit in recipe.sites}
    channels = {entry.block: entry.kept_count for entry in recipe.keep_channels}
    groups = {entry.block: entry.kept_count for entry in recipe.keep_groups}
    tokens = None if recipe.keep_tokens is None else recipe.keep_tokens.kept_count

    def is_taken(column: Column) -> bool:
        if column.drops is not None:
            return column.drops == recipe.drops
        if column.tables is not None:
            return column.tables == (tokens, recipe.table_kernel)
        if column.channels is not None:
            return column.channels[1] == channels.get(column.channels[0])
        if column.groups is not None:
            return column.groups[1] == groups.get(column.groups[0])
        assert column.site is not None  # a column is one of the five
        return _is_same(column.site, edits.get(column.site.name))

    wanted = {at for at, column in enumerate(space.columns) if is_taken(column)}
    taken: list[int] = []
    found: set[int] = set()
    by_group: dict[int, int] = {}
    for at in sorted(wanted):
        by_group.setdefault(space.columns[at].group, at)
    for number, group in enumerate(space.groups):
        # Groups stand behind the columns that switch them on or off.
        is_on = group.switch in found if group.switch is not None else not found.intersection(group.off)
        if not is_on:
            continue
        if number not in by_group:
            return None
        taken.append(by_group[number])
        found.add(by_group[number])
    return tuple(taken)


def _is_same(offered: SiteEdit, written: SiteEdit | None) -> bool:
    if written is None:
        return offered.kernel == FLOAT32 and offered.rank is None
    if (offered.kernel, offered.rank) != (written.kernel, written.rank):
        return False
    return offered.rank is None or (offered.method, offered.form) == (written.method, written.form)
