"""What a recipe leaves of every site, block by block: the cells of the heat map, from the shapes before and after."""

import functools
from dataclasses import dataclass

from edgeprune.errors import EdgePruneError
from edgeprune.schema.kernel import parse_kernel
from edgeprune.schema.lock import Lock
from edgeprune.schema.model import ModelSpec, SiteSpec
from edgeprune.schema.recipe import Recipe
from edgeprune.shapes import edit_shapes, site_parameter_count

__all__ = ["Cell", "Heat", "heat_of", "locks_for", "toggled"]


@dataclass(frozen=True)
class Cell:
    """One site."""

    site: str
    """Its name, such as `blocks.3.q`."""
    kept_fraction: float
    """Parameters / the dense site's."""
    bits: int | None
    """Of its kernel; None where the site is gone."""
    text: str
    """What is stored of it."""


@dataclass(frozen=True)
class Heat:
    """Rows of roles, columns of blocks."""

    roles: tuple[str, ...]
    blocks: tuple[int, ...]
    cells: tuple[tuple[Cell, ...], ...]
    """One tuple a role."""

    def cell(self, row: int, column: int) -> Cell | None:
        """The cell at a place; None outside."""
        is_inside = 0 <= row < len(self.roles) and 0 <= column < len(self.blocks)
        return self.cells[row][column] if is_inside else None


@functools.lru_cache(maxsize=64)
def _edited(spec: ModelSpec, recipe: Recipe) -> ModelSpec | None:
    try:
        return edit_shapes(spec, recipe)
    except EdgePruneError:  # a recipe of another model: the folder is being written
        return None


def heat_of(spec: ModelSpec | None, recipe: Recipe | None) -> Heat | None:
    """The map; None without a model or a recipe of it."""
    if spec is None or recipe is None:
        return None
    edited = _edited(spec, recipe)
    if edited is None:
        return None
    left = {site.name: site for block in edited.blocks for site in block.sites}
    roles = tuple(dict.fromkeys(site.role for block in spec.blocks for site in block.sites))
    dense = {site.name: site for block in spec.blocks for site in block.sites}
    rows = []
    for role in roles:
        names = [next((site.name for site in block.sites if site.role == role), "") for block in spec.blocks]
        rows.append(tuple(_cell(name, dense.get(name), left.get(name)) for name in names))
    return Heat(roles, tuple(block.index for block in spec.blocks), tuple(rows))


def _cell(name: str, dense: SiteSpec | None, left: SiteSpec | None) -> Cell:
    if dense is None or left is None:
        return Cell(name, 0.0, None, "removed")
    kept = site_parameter_count(left) / site_parameter_count(dense)
    form = "" if left.form == "factors" else f" {left.form}"
    rank = "" if left.rank is None else f" rank {left.rank}{form}"
    shape = f"{left.out_features} x {left.in_features}"
    if (left.out_features, left.in_features) != (dense.out_features, dense.in_features):
        shape += f" of {dense.out_features} x {dense.in_features}"
    return Cell(name, min(1.0, kept), parse_kernel(left.kernel).bits, f"{left.kernel}{rank}, {shape}")


def locks_for(recipe: Recipe, name: str) -> tuple[Lock, ...]:
    """Locks that hold a site (`blocks.3.q`) or a block (`block.3`) to what a recipe has there."""
    if name.startswith("block."):
        is_dropped = int(name.removeprefix("block.")) in recipe.drop_blocks
        return (Lock(pattern=name, action="drop" if is_dropped else "keep"),)
    edit = next((entry for entry in recipe.sites if entry.name == name), None)
    if edit is None:
        return (Lock(pattern=name, action="dense"), Lock(pattern=name, action="fp32"))
    rank = "dense" if edit.rank is None else f"rank={edit.rank}"
    return (Lock(pattern=name, action=rank), Lock(pattern=name, action=edit.kernel))


def toggled(locks: tuple[Lock, ...], name: str, recipe: Recipe) -> tuple[Lock, ...]:
    """The locks with those on a name taken away, or added where there were none."""
    others = tuple(lock for lock in locks if lock.pattern != name)
    return others if len(others) < len(locks) else (*locks, *locks_for(recipe, name))
