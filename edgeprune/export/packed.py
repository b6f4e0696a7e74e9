"""Matrices of a block that read the same input, as one product: each start of a kernel costs a few microseconds.

Query, key and value are one where all three are whole matrices under one kernel: GroupQueryAttention takes the three
packed in one tensor. So are gate and up under a kernel of integers, with a Split behind (4 bits, 768 x 2,048: 2 % of a
token's time; in floats a prompt of 512 tokens took 2 % longer). Sites that share one right factor are alike: their left
factors read its product, and are whole matrices to it. Right factors of their own, under one kernel, are one product
too, and the Split gives each left factor its part. The input is read, and where the kernel rounds activations rounded,
once. Rows of a matrix have their own scales under every kernel, so the integers stay those of the sites, and the bytes
the same.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir
import torch
from onnxscript import nn

from edgeprune.export.matrices import Matrix, Site, StoredArray, to_array
from edgeprune.schema.model import INPUT_ROLES, SiteRole

__all__ = ["ATTENTION_ROLES", "JoinedFactors", "PackedBlock", "PackedSites", "Stored", "pack_block"]

ATTENTION_ROLES, GATED_ROLES = INPUT_ROLES


@dataclass(frozen=True)
class PackedBlock:
    """The sites of a block, and which of them stand together."""

    sites: Mapping[SiteRole, Site]
    attention: "PackedSites | None"
    mlp: "PackedSites | None"
    joined: "tuple[JoinedFactors, ...]"

    @property
    def modules(self) -> dict[SiteRole, nn.Module]:
        """What stands in the place of each site in a tree that calls them one by one, in the order of their roles."""
        modules: dict[SiteRole, nn.Module] = {**self.sites}
        for packed in self._packed:
            modules |= packed.stand_ins()
        return modules

    @property
    def stored(self) -> "list[Stored]":
        """What holds the weights: packed sites, then those that stand alone, then joined factors."""
        gone = {role for packed in self._packed for role in packed.roles}
        return [*self._packed, *(site for role, site in self.sites.items() if role not in gone), *self.joined]

    @property
    def _packed(self) -> "list[PackedSites]":
        return [packed for packed in (self.attention, self.mlp) if packed is not None]


def pack_block(sites: Mapping[SiteRole, Site], *, block_index: int, packs_attention: bool) -> PackedBlock:
    """Put together what may be.

    Args:
        sites: of one block; their right factors are changed where they are joined.
        block_index: of the dense model, for names.
        packs_attention: whether nothing stands between query and key and the attention.
    """
    attention = _packed(sites, ATTENTION_ROLES, block_index) if packs_attention else None
    mlp = _packed(sites, GATED_ROLES, block_index)
    if mlp is not None and mlp.left.kernel.kind == "float":
        mlp = None
    packed = {role for whole in (attention, mlp) if whole is not None for role in whole.roles}
    others = {role: site for role, site in sites.items() if role not in packed}
    return PackedBlock(sites, attention, mlp, _join_right_factors(others, block_index))


def _packed(sites: Mapping[SiteRole, Site], roles: tuple[SiteRole, ...], block_index: int) -> "PackedSites | None":
    """Sites of these roles in one; None where they are not alike."""
    if not all(role in sites for role in roles):
        return None
    parts = {role: sites[role] for role in roles}
    first = parts[roles[0]]
    is_alike = all(
        _right_source(site) is _right_source(first)
        and not site.is_joined
        and site.heads is None
        and site.left.kernel == first.left.kernel
        and site.left.in_features == first.left.in_features
        and (site.bias is None) == (first.bias is None)
        for site in parts.values()
    )
    return PackedSites(parts, name=f"blocks.{block_index}.{''.join(roles)}") if is_alike else None


def _join_right_factors(sites: Mapping[SiteRole, Site], block_index: int) -> "tuple[JoinedFactors, ...]":
    """One product for the right factors that read one input under one kernel; each site then holds its part of it."""
    joined: list[JoinedFactors] = []
    for roles in INPUT_ROLES:
        by_kernel: dict[str, dict[SiteRole, Site]] = {}
        for role in roles:
            site = sites.get(role)
            if site is not None and isinstance(site.right, Matrix):
                by_kernel.setdefault(site.right.kernel.name, {})[role] = site
        joined += [
            JoinedFactors(alike, name=f"blocks.{block_index}.{''.join(alike)}")
            for alike in by_kernel.values()
            if len(alike) > 1
        ]
    return tuple(joined)


def _right_source(site: Site) -> torch.Tensor | None:
    """The right factor's tensor; None for a whole matrix."""
    if site.right is None:
        return None
    assert isinstance(site.right, Matrix), "sites are packed before their right factors are joined"
    (source,) = site.right.sources
    return source


class PackedSites(nn.Module):
    """Sites of one input in one product, or in two where they share a right factor."""

    def __init__(self, sites: Mapping[SiteRole, Site], *, name: str) -> None:
        """Take sites of one matrix each, or of one right factor, of one kernel and width; `name` is the whole's."""
        super().__init__()
        self.site_name = name
        self.roles = tuple(sites)
        parts = tuple(sites.values())
        kernel = parts[0].left.kernel.name
        self.right: Matrix | None = parts[0].right
        self.left = Matrix([source for site in parts for source in site.left.sources], kernel, what=f"sites {name}")
        self.widths = [site.left.out_features for site in parts]
        self.bias_sources = [site.bias_source for site in parts if site.bias_source is not None]
        self.bias = nn.Parameter([sum(self.widths)]) if self.bias_sources else None

    def stand_ins(self) -> dict[SiteRole, nn.Module]:
        """What takes the place of the sites in a tree that calls them one by one, in this order."""
        first = _FirstPart(self)
        later = {role: _LaterPart(first, position) for position, role in enumerate(self.roles) if position}
        return {self.roles[0]: first, **later}

    def forward(self, op: Any, x: ir.Value) -> ir.Value:
        """Emit the outputs of all sites, one after the other along the last axis."""
        y = self.left(op, x if self.right is None else self.right(op, x))
        return y if self.bias is None else op.Add(y, self.bias)

    def arrays(self) -> Iterator[StoredArray]:
        """The shared right factor, the matrix, the biases."""
        if self.right is not None:
            yield from self.right.arrays()
        yield from self.left.arrays()
        if self.bias is not None:
            yield np.concatenate([to_array(bias) for bias in self.bias_sources]), (self.bias,)


class JoinedFactors(nn.Module):
    """Right factors of one input in one product, one that sites share once; a site's left factor is its own."""

    def __init__(self, sites: Mapping[SiteRole, Site], *, name: str) -> None:
        """Take factored sites of one kernel and width, in the order in which they are called; they are changed."""
        super().__init__()
        self.site_name = name
        matrices = [site.right for site in sites.values() if isinstance(site.right, Matrix)]
        assert len(matrices) == len(sites), "right factors are joined once"
        sources = [source for matrix in matrices for source in matrix.sources]
        known = [id(source) for source in sources]
        self.right = Matrix(
            [source for at, source in enumerate(sources) if known.index(id(source)) == at],
            matrices[0].kernel.name,
            what=f"right factors of {name}",
        )
        self.widths = [len(source) for source in self.right.sources]
        places = [[id(source) for source in self.right.sources].index(each) for each in known]
        first = _FirstPart(self)
        for position, (site, place) in enumerate(zip(sites.values(), places, strict=True)):
            site.right = first if position == 0 else _LaterPart(first, place)

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
        widths, product = self.packed.widths, self.packed(op, x)
        # One right factor that all of them share is no part of anything.
        self.parts = tuple(op.Split(product, widths, axis=-1, _outputs=len(widths))) if widths[1:] else (product,)
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


Stored: TypeAlias = Site | PackedSites | JoinedFactors
"""What holds weights of a block."""
