"""Query, key and value of a block as one product, where all three are whole matrices under one kernel.

GroupQueryAttention takes the three packed in one tensor, so what is left is one matrix node for three: the input is
read, and where the kernel rounds activations rounded, once. Rows of a matrix have their own scales under every kernel,
so the integers stay those of the three sites, and the bytes the same.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from onnxscript import nn

from edgeprune.export.matrices import Matrix, Site, StoredArray, to_array
from edgeprune.schema.model import SiteRole

__all__ = ["PACKED_ROLES", "PackedSites", "pack_attention"]

PACKED_ROLES: tuple[SiteRole, ...] = ("q", "k", "v")


def pack_attention(sites: Mapping[SiteRole, Site], *, block_index: int) -> "PackedSites | None":
    """Query, key and value of a block in one; None where they are not alike."""
    if not all(role in sites for role in PACKED_ROLES):
        return None
    parts = tuple(sites[role] for role in PACKED_ROLES)
    first = parts[0]
    is_alike = all(
        site.right is None
        and site.left.kernel == first.left.kernel
        and site.left.in_features == first.left.in_features
        and (site.bias is None) == (first.bias is None)
        for site in parts
    )
    return PackedSites(parts, name=f"blocks.{block_index}.qkv") if is_alike else None


class PackedSites(nn.Module):
    """Sites of one input in one product."""

    right: None = None

    def __init__(self, sites: tuple[Site, ...], *, name: str) -> None:
        """Take sites of one matrix each, of one kernel and width; `name` is that of the whole."""
        super().__init__()
        self.site_name = name
        kernel = sites[0].left.kernel.name
        self.left = Matrix([part for site in sites for part in site.left.sources], kernel, what=f"sites {name}")
        self.widths = [site.left.out_features for site in sites]
        self.bias_sources = [site.bias_source for site in sites if site.bias_source is not None]
        self.bias = nn.Parameter([sum(self.widths)]) if self.bias_sources else None

    def stand_ins(self) -> dict[SiteRole, nn.Module]:
        """What takes the place of query, key and value in a tree that calls them one by one, query first."""
        first = _FirstPart(self)
        return {"q": first, "k": _LaterPart(first, 1), "v": _LaterPart(first, 2)}

    def forward(self, op: Any, x: ir.Value) -> ir.Value:
        """Emit the outputs of all sites, one after the other along the last axis."""
        y = self.left(op, x)
        return y if self.bias is None else op.Add(y, self.bias)

    def arrays(self) -> Iterator[StoredArray]:
        """The matrix, then the biases."""
        yield from self.left.arrays()
        if self.bias is not None:
            yield np.concatenate([to_array(bias) for bias in self.bias_sources]), (self.bias,)


class _FirstPart(nn.Module):
    """The product and its parts; gives the first. `pack_split_attention` takes the Split out again."""

    def __init__(self, packed: PackedSites) -> None:
        super().__init__()
        self.packed = packed
        self.parts: tuple[ir.Value, ...] = ()

    def forward(self, op: Any, x: ir.Value) -> ir.Value:
        widths = self.packed.widths
        self.parts = tuple(op.Split(self.packed(op, x), widths, axis=-1, _outputs=len(widths)))
        return self.parts[0]


class _LaterPart(nn.Module):
    """Another part of a product that was emitted already, in the place of its site."""

    def __init__(self, first: _FirstPart, position: int) -> None:
        super().__init__()
        # Not a child module: the parameters belong to the one that stands for the first site.
        object.__setattr__(self, "first", first)
        self.position = position

    def forward(self, op: Any, x: ir.Value) -> ir.Value:
        first: _FirstPart = self.first
        assert first.parts, "the first site of a block is called first"
        return first.parts[self.position]
