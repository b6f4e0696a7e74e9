"""Matrices of a block that read the same input, as one product: each start of a kernel costs a few microseconds.

Query, key and value are one where all three are whole matrices under one kernel: GroupQueryAttention takes the three
packed in one tensor. Right factors under one kernel are one product too (query, key and value; gate and up), and a
Split gives each left factor its part. The input is read, and where the kernel rounds activations rounded, once. Rows of
a matrix have their own scales under every kernel, so the integers stay those of the sites, and the bytes the same.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from onnxscript import nn

from edgeprune.export.matrices import Matrix, Site, StoredArray, to_array
from edgeprune.schema.model import SiteRole

__all__ = ["PACKED_ROLES", "JoinedFactors", "PackedSites", "join_right_factors", "pack_attention"]

PACKED_ROLES: tuple[SiteRole, ...] = ("q", "k", "v")
JOINED_ROLES: tuple[tuple[SiteRole, ...], ...] = (PACKED_ROLES, ("gate", "up"))
"""Sites that read the same input."""


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


def join_right_factors(sites: Mapping[SiteRole, Site], *, block_index: int) -> "tuple[JoinedFactors, ...]":
    """One product for the right factors that read one input under one kernel; each site then holds its part of it."""
    joined: list[JoinedFactors] = []
    for roles in JOINED_ROLES:
        by_kernel: dict[str, dict[SiteRole, Site]] = {}
        for role in roles:
            site = sites.get(role)
            if site is not None and site.right is not None:
                by_kernel.setdefault(site.right.kernel.name, {})[role] = site
        joined += [
            JoinedFactors(alike, name=f"blocks.{block_index}.{''.join(alike)}")
            for alike in by_kernel.values()
            if len(alike) > 1
        ]
    return tuple(joined)


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


class JoinedFactors(nn.Module):
    """Right factors of one input in one product; a site's left factor is its own."""

    def __init__(self, sites: Mapping[SiteRole, Site], *, name: str) -> None:
        """Take factored sites of one kernel and width, in the order in which they are called; they are changed."""
        super().__init__()
        self.site_name = name
        factors = [site.right for site in sites.values()]
        assert all(isinstance(factor, Matrix) for factor in factors)
        matrices = [factor for factor in factors if isinstance(factor, Matrix)]
        sources = [source for matrix in matrices for source in matrix.sources]
        self.right = Matrix(sources, matrices[0].kernel.name, what=f"right factors of {name}")
        self.widths = [matrix.out_features for matrix in matrices]
        first = _FirstPart(self)
        for position, site in enumerate(sites.values()):
            site.right = first if position == 0 else _LaterPart(first, position)

    def forward(self, op: Any, x: ir.Value) -> ir.Value:
        """Emit the products with all right factors, one after the other along the last axis."""
        return self.right(op, x)

    def arrays(self) -> Iterator[StoredArray]:
        """The matrix."""
        yield from self.right.arrays()


class _FirstPart(nn.Module):
    """The product and its parts; gives the first. `pack_split_attention` takes an attention's Split out again."""

    def __init__(self, packed: PackedSites | JoinedFactors) -> None:
        super().__init__()
        self.packed = packed
        self.parts: tuple[ir.Value, ...] = ()

    def forward(self, op: Any, x: ir.Value) -> ir.Value:
        widths = self.packed.widths
        self.parts = tuple(op.Split(self.packed(op, x), widths, axis=-1, _outputs=len(widths)))
        return self.parts[0]


class _LaterPart(nn.Module):
    """Another part of a product that was emitted already, in the place of its site or right factor."""

    def __init__(self, first: _FirstPart, position: int) -> None:
        super().__init__()
        # Not a child module: the parameters belong to the one that stands for the first.
        object.__setattr__(self, "first", first)
        self.position = position

    def forward(self, op: Any, x: ir.Value) -> ir.Value:
        first: _FirstPart = self.first
        assert first.parts, "the first of the joined is called first"
        return first.parts[self.position]
