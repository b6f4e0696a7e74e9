"""Query, key and value of a block are one product in the exported graph where all three are whole matrices alike.

The solver chooses site by site, so each of the three is priced at its share of that product. Where it then chooses
them unlike, each is a product of its own, and what that takes more (a node and its rounding of the input) is left out.
"""

from edgeprune.predict.structure import packed_bytes
from edgeprune.schema.model import BlockSpec, ModelSpec

__all__ = ["packed_ratios", "packed_width", "saved_bytes"]

_ROLES = ("q", "k", "v")


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
