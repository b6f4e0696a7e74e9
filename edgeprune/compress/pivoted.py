"""A linear site kept as some of its own rows and what makes the other rows from them.

A matrix W' [out, in] of rank r has r rows P that span all its rows, so with the rows in the order (P, the others)

    W' = [R; C R],   R = W'[P],   C = W'[others] R^+                                                     (1)

which is r (in + out - r) numbers where two factors are r (in + out): less than the dense matrix at every r below full
rank. `pivot` takes two factors of W' = L F and chooses P as a submatrix of L of locally largest volume (Goreinov,
Oseledets, Savostyanov, Tyrtyshnikov and Zamarashkin 2010, "How to find a good submatrix"): rows that partial pivoting
picks first, then exchanges until no coefficient is larger than about one,

    C = L[others] L[P]^-1,   while |C_ij| > 1 + tolerance: row i takes the place of pivot j                 (2)
    the exchange is C <- C - C[:, j] (C[i, :] - e_j) / C_ij, over all rows, pivots included                (3)

Each exchange multiplies the volume by |C_ij|, so they end. Small coefficients keep what is rounded in R small in the
rows made from it.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from edgeprune.compress.factored import FactoredLinear

__all__ = ["PivotedLinear", "Pivots", "dominant_rows", "pivot"]

_TOLERANCE = 0.05
"""Coefficients up to 1.05 are let be: the last exchanges gain little volume and are most of them."""


class Pivots(NamedTuple):
    """A low-rank matrix by rows, float64 as the factors were."""

    rows: Tensor
    """[rank, in]."""
    coefficients: Tensor
    """[out - rank, rank], none larger than about one."""
    order: Tensor
    """[out] int64: row j of the matrix is row order[j] of the pivot rows followed by the others."""


class PivotedLinear(FactoredLinear):
    """Low-rank linear layer in the pivot form: y = [R x; C (R x)] in the order of the rows, + b.

    Attributes:
        right: [rank, in] parameter, the pivot rows R.
        left: [out - rank, rank] parameter, the coefficients C.
        order: [out] int64 buffer; output j is entry order[j] of the two products joined; None where that is j.
        bias: [out] parameter, or None.
    """

    order: Tensor | None

    def __init__(self, right: Tensor, left: Tensor, order: Tensor | None, bias: Tensor | None = None) -> None:
        """Take the parts as they are, dtype included; they are not copied.

        Args:
            right: [rank, in].
            left: [out - rank, rank].
            order: [out] int64, a permutation; None for the identity.
            bias: [out] or None.
        """
        assert order is None or order.shape == (right.shape[0] + left.shape[0],), (right.shape, left.shape, order.shape)
        super().__init__(right, left, bias)
        self.register_buffer("order", order)

    @property
    def out_features(self) -> int:
        """Width of the output."""
        return self.right.shape[0] + self.left.shape[0]

    def product(self) -> Tensor:
        """The whole matrix, [out, in]: for error measurements only, the model never stores it."""
        rows = self.right.detach().double()
        product = torch.cat([rows, self.left.detach().double() @ rows])
        return product if self.order is None else product[self.order]

    def forward(self, inputs: Tensor) -> Tensor:
        """Multiply [..., in] by the pivot rows, and make all outputs in their order from that; [..., out]."""
        return functional.linear(functional.linear(inputs, self.right), self._whole_left(), self.bias)

    def _whole_left(self) -> Tensor:
        """[I; C] with its rows in order, [out, rank]: small beside the outputs of a batch, and nothing is moved."""
        whole = torch.cat([torch.eye(self.rank, dtype=self.left.dtype, device=self.left.device), self.left])
        return whole if self.order is None else whole[self.order]

    def with_parameters(self, right: Tensor, left: Tensor) -> "PivotedLinear":
        """The same layer around other pivot rows and coefficients of the same shapes."""
        return PivotedLinear(right, left, self.order, self.bias)

    @classmethod
    def empty(
        cls, *, in_features: int, rank: int, out_features: int, has_bias: bool, has_order: bool = True
    ) -> "PivotedLinear":
        """Float32 parts without values, to load tensors into."""
        return cls(
            torch.empty(rank, in_features),
            torch.empty(out_features - rank, rank),
            torch.arange(out_features) if has_order else None,
            torch.empty(out_features) if has_bias else None,
        )


def pivot(right: Tensor, left: Tensor) -> Pivots:
    """The pivot form of a product of two factors.

    Args:
        right: [rank, in] float64.
        left: [out, rank] float64, out above rank.
    """
    out_features, rank = left.shape
    assert rank < out_features, left.shape
    # Orthonormal columns give the same coefficients, and have full rank where the factor has not.
    basis, triangle = torch.linalg.qr(left)
    chosen = dominant_rows(basis)
    is_pivot = torch.zeros(out_features, dtype=torch.bool)
    is_pivot[chosen] = True
    chosen = chosen.sort().values  # in the order of the matrix, which keeps what is neighbouring together
    others = (~is_pivot).nonzero().flatten()
    order = torch.empty(out_features, dtype=torch.int64)
    order[torch.cat([chosen, others])] = torch.arange(out_features)
    # Solved again, since the exchanges add up rounding.
    coefficients = torch.linalg.solve(basis[chosen], basis[others], left=False)  # eq. (2)
    return Pivots(rows=basis[chosen] @ triangle @ right, coefficients=coefficients, order=order)  # eq. (1)


def dominant_rows(left: Tensor) -> Tensor:
    """Rows [rank] int64 of an orthonormal basis [out, rank] whose submatrix has locally the largest volume."""
    rank = left.shape[1]
    permutation, _, _ = torch.linalg.lu(left)
    chosen = permutation.T.argmax(dim=1)[:rank]
    coefficients = torch.linalg.solve(left[chosen], left, left=False)
    while True:
        at = int(coefficients.abs().argmax())
        row, column = divmod(at, rank)
        largest = coefficients[row, column]
        if not float(largest.abs()) > 1.0 + _TOLERANCE:
            return chosen
        change = coefficients[row].clone()
        change[column] -= 1.0
        coefficients -= torch.outer(coefficients[:, column] / largest, change)  # eq. (3)
        chosen[column] = row
