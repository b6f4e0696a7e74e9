"""Matrices of a block that are one product in the exported graph.

Query, key and value are one where all three are whole and alike; so are the right factors of sites that read one input
(query, key and value; gate and up) under one kernel.

The solver chooses site by site, so each is priced at its share of that product. Where it then chooses them unlike, each
is a product of its own, and what that takes more (a node and its rounding of the input) is left out.
"""

from edgeprune.predict.structure import packed_bytes
from edgeprune.schema.model import BlockSpec, ModelSpec

__all__ = ["joined_counts", "packed_ratios", "packed_width", "saved_bytes"]

_ROLES = ("q", "k", "v")
_JOINED = (_ROLES, ("gate", "up"))
"""Sites that read the same input."""


def packed_width(block: BlockSpec, *, hidden_size: int) -> int | None:
    """Outputs of query, key and value together; None where they are not, or cannot be, one product.

    Norms on queries and keys, which stand between product and attention, show in a count of norm parameters that is no
    multiple of the model's width.
    """
    widths = [site.out_features for site in block.sites if site.role in _ROLES]
    is_normed = block.norm_parameter_count % hidden_size != 0
    return sum(widths) if len(widths) == len(_ROLES) and not is_normed else None


def packed_ratios(spec: ModelSpec) -> dict[str, float]:
    """Name of a site -> outputs of its product over its own; sites that stand alone are left out.

    Fewer key-value groups narrow all three alike, so the ratios of the dense model hold for edited ones.
    """
    found: dict[str, float] = {}
    for block in spec.blocks:
        width = packed_width(block, hidden_size=spec.hidden_size)
        if width is not None:
            found |= {site.name: width / site.out_features for site in block.sites if site.role in _ROLES}
    return found


def joined_counts(spec: ModelSpec) -> dict[str, int]:
    """Name of a site -> sites whose right factors stand in one product with its own, if they are of equal rank."""
    found: dict[str, int] = {}
    for block in spec.blocks:
        for roles in _JOINED:
            names = [site.name for site in block.sites if site.role in roles]
            found |= dict.fromkeys(names, len(names))
    return found


def saved_bytes(edited: ModelSpec) -> int:
    """Bytes of the graph file that packing saves an edited model against the sum of its sites, which prices are."""
    total = 0
    for block in edited.blocks:
        sites = [site for site in block.sites if site.role in _ROLES]
        kinds = {(site.kernel, site.rank, site.has_bias) for site in sites}
        if packed_width(block, hidden_size=edited.hidden_size) is None or len(kinds) != 1 or sites[0].rank is not None:
            continue
        total += packed_bytes(sites[0].kernel, has_bias=sites[0].has_bias)
    return total
