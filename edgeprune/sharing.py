"""Which sites of a block have one right factor between them.

A site of the form `shared` stores a left factor alone and takes the right one of the nearest site before it that reads
the same input and stores one. So query, key and value are left_q (right x), left_k (right x) and left_v (right x): the
matrices below each other, [q; k; v] = left right, at one rank.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

from edgeprune.errors import RecipeError
from edgeprune.schema.model import INPUT_ROLES, SiteForm, SiteSpec
from edgeprune.schema.recipe import SiteEdit

__all__ = ["check_ranks", "groups_of_one_factor"]


class _Ranked(Protocol):
    """A site's shape or edit."""

    @property
    def name(self) -> str: ...

    @property
    def rank(self) -> int | None: ...

    @property
    def form(self) -> SiteForm: ...


_Site = TypeVar("_Site", bound=_Ranked)


def groups_of_one_factor(sites: Sequence[_Site]) -> list[tuple[_Site, ...]]:
    """Every site of one block once: alone, or behind the owner of the right factor it takes.

    Args:
        sites: of one block; those without a rank stand alone.
    """
    groups = {site.name: [site] for site in sites}
    for site in sites:
        owner = _owner(sites, site.name) if _shares(site) else None
        if owner is not None:
            groups[owner.name].append(site)
            del groups[site.name]
    return [tuple(group) for group in groups.values()]


def check_ranks(sites: Sequence[SiteSpec], edits: Mapping[str, tuple[int, SiteEdit]]) -> None:
    """Ranks below full, and one right factor to each site of the form `shared` that fits it.

    Args:
        sites: of a block as edited.
        edits: site name -> its place in the recipe, and its edit.

    Raises:
        RecipeError: names the entry.
    """
    for site in filter(_shares, sites):
        _check_shared(site, _owner(sites, site.name), edits)
    for group in groups_of_one_factor(sites):
        full = min(group[0].in_features, sum(site.out_features for site in group))
        for site in group:
            if site.rank is not None and site.rank >= full:
                raise RecipeError(
                    f"recipe site {site.name}: rank {site.rank} is not below the full rank {full}; leave rank out to "
                    "keep the matrix dense.",
                    *("sites", edits[site.name][0], "rank"),
                )


def _shares(site: _Ranked) -> bool:
    return site.rank is not None and site.form == "shared"


def _owner(sites: Sequence[_Site], name: str) -> _Site | None:
    """The nearest site before it that reads the same input and stores a right factor."""
    by_role = {site.name.rsplit(".", 1)[1]: site for site in sites}
    for role in reversed(_before(name)):
        site = by_role.get(role)
        if site is not None and site.rank is not None and site.form == "factors":
            return site
    return None


def _before(name: str) -> Sequence[str]:
    """Roles before a site that read its input."""
    role = name.rsplit(".", 1)[1]
    return next((roles[: roles.index(own)] for roles in INPUT_ROLES for own in roles if own == role), ())


def _check_shared(site: SiteSpec, owner: SiteSpec | None, edits: Mapping[str, tuple[int, SiteEdit]]) -> None:
    position, edit = edits[site.name]
    where, place = f"recipe site {site.name}", ("sites", position)
    if owner is None:
        before = _before(site.name)
        whose = f"and none of {', '.join(before)} stores one" if before else "and nothing before it reads its input"
        raise RecipeError(
            f"{where}: form shared takes the right factor of a site before it that reads the same input, {whose}; use "
            "form factors here.",
            *place,
            "form",
        )
    _, first = edits[owner.name]
    for key, own, wanted in (
        ("rank", edit.rank, first.rank),
        ("method", edit.method, first.method),
        ("kernel", edit.kernel, first.kernel),
    ):
        if own != wanted:
            raise RecipeError(
                f"{where}: it shares the right factor of {owner.name}, whose {key} is {wanted}; write {wanted} here "
                f"too, not {own}.",
                *place,
                key,
            )
