"""Blocks of decoders with layer norms, as many key-value heads as query heads, and an MLP without a gate."""

from collections.abc import Set as AbstractSet

from edgeprune.schema.model import BlockSpec, SiteRole, SiteSpec, site_name

__all__ = ["plain_block"]


def plain_block(index: int, *, hidden: int, heads: int, inner: int, biased: AbstractSet[SiteRole]) -> BlockSpec:
    """One block; two norms with biases, and a bias at the sites of `biased`."""
    widths: dict[SiteRole, tuple[int, int]] = {
        "q": (hidden, hidden),
        "k": (hidden, hidden),
        "v": (hidden, hidden),
        "o": (hidden, hidden),
        "up": (inner, hidden),
        "down": (hidden, inner),
    }
    return BlockSpec(
        index=index,
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=hidden // heads,
        intermediate_size=inner,
        sites=tuple(
            SiteSpec(
                name=site_name(index, role),
                role=role,
                in_features=width_in,
                out_features=width_out,
                has_bias=role in biased,
            )
            for role, (width_out, width_in) in widths.items()
        ),
        norm_parameter_count=4 * hidden,
    )
