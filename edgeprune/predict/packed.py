"""Matrices of a block that are one product in the exported graph.

Query, key and value are one where all three are whole and alike; gate and up where they are under a kernel of integers
besides; so are the right factors of sites that read one input (query, key and value; gate and up) under one kernel,
and the left factors of sites that share their right one.

The solver chooses site by site, so each is priced at its share of that product. Where it then chooses them unlike, each
is a product of its own, and what that takes more (a node and its rounding of the input) is left out.
"""

from collections.abc import Iterator
from typing import NamedTuple

from msgspec.structs import replace

from edgeprune.predict.structure import packed_bytes
from edgeprune.schema.kernel import parse_kernel
from edgeprune.schema.model import INPUT_ROLES, BlockSpec, ModelSpec, SiteSpec
from edgeprune.sharing import groups_of_one_factor

__all__ = ["ALONE", "Priced", "Share", "joined_counts", "packed_shares", "packed_widths", "priced_sites", "saved_bytes"]

_ROLES, _GATED = INPUT_ROLES


class Share(NamedTuple):
    """A whole site's part of a product."""

    ratio: float
    """Outputs of the product over those of the site."""
    split_nodes: float
    """Its share of the node behind the product that gives each site's outputs."""
    is_for_integers: bool
    """Whether only kernels of integers are put together."""

    def holds(self, kernel: str) -> bool:
        """Whether the sites are one product under this kernel."""
        return not self.is_for_integers or parse_kernel(kernel).kind != "float"


ALONE = Share(1.0, 0.0, is_for_integers=False)


class Priced(NamedTuple):
    """What has a price of its own in an edited model."""

    site: SiteSpec
    """A site, or as one as wide as all of them those that share a right factor and stand in one product."""
    share: Share | None
    """Of the product it stands in; None: what `packed_shares` says of the dense model."""
    joined: int | None
    """Sites whose right factors stand in one product with its own; None: what `joined_counts` says."""


def priced_sites(block: BlockSpec, *, hidden_size: int) -> Iterator[Priced]:
    """The sites of an edited block as their prices are told."""
    packed = packed_widths(block, hidden_size=hidden_size)
    for group in groups_of_one_factor(block.sites):
        owner, roles = group[0], tuple(site.role for site in group)
        is_split = roles == _GATED
        if len(group) == 1:
            yield Priced(owner, None, None)
        elif (
            roles in packed
            and len({site.has_bias for site in group}) == 1
            and not (is_split and parse_kernel(owner.kernel).kind == "float")
        ):
            whole = replace(owner, out_features=sum(site.out_features for site in group))
            yield Priced(whole, Share(1.0, float(is_split), is_for_integers=False), 1)
        else:
            yield from (Priced(site, ALONE, 1) for site in group)


def packed_widths(block: BlockSpec, *, hidden_size: int) -> dict[tuple[str, ...], int]:
    """Outputs together of query, key and value, and of gate and up, by role; those that can be no product left out.

    Norms on queries and keys, which stand between product and attention, show in a count of norm parameters that is no
    multiple of the model's width.
    """
    is_normed = block.norm_parameter_count % hidden_size != 0
    found: dict[tuple[str, ...], int] = {}
    for roles in INPUT_ROLES:
        widths = [site.out_features for site in block.sites if site.role in roles]
        if len(widths) == len(roles) and not (is_normed and roles == _ROLES):
            found[roles] = sum(widths)
    return found


def packed_shares(spec: ModelSpec) -> dict[str, Share]:
    """Name of a site -> its part of its product; sites that stand alone are left out.

    Fewer key-value groups narrow all three alike, as fewer channels do gate and up, so the shares of the dense model
    hold for edited ones.
    """
    found: dict[str, Share] = {}
    for block in spec.blocks:
        for roles, width in packed_widths(block, hidden_size=spec.hidden_size).items():
            split = 1.0 / len(roles) if roles == _GATED else 0.0
            found |= {
                site.name: Share(width / site.out_features, split, roles == _GATED)
                for site in block.sites
                if site.role in roles
            }
    return found


def joined_counts(spec: ModelSpec) -> dict[str, int]:
    """Name of a site -> sites whose right factors stand in one product with its own, if they are of equal rank."""
    found: dict[str, int] = {}
    for block in spec.blocks:
        for roles in INPUT_ROLES:
            names = [site.name for site in block.sites if site.role in roles]
            found |= dict.fromkeys(names, len(names))
    return found


def saved_bytes(edited: ModelSpec) -> int:
    """Bytes of the graph file that packing saves an edited model against the sum of its sites, which prices are."""
    total = 0
    for block in edited.blocks:
        for roles in packed_widths(block, hidden_size=edited.hidden_size):
            sites = [site for site in block.sites if site.role in roles]
            kinds = {(site.kernel, site.rank, site.has_bias) for site in sites}
            if len(kinds) != 1 or sites[0].rank is not None:
                continue
            is_split = roles == _GATED
            if is_split and parse_kernel(sites[0].kernel).kind == "float":
                continue
            total += packed_bytes(sites[0].kernel, count=len(sites), has_bias=sites[0].has_bias, is_split=is_split)
    return total
