"""v and o of which every head keeps its first numbers alone.

Attention takes heads of one width, so the values that are left stand first in each head, with zeros behind them, and
the output projection reads the first numbers of each head alone. What is stored is the one matrix that is left: for v
the right factor of a `FactoredLinear`, for o the left one; the other factor is the fixed selection of places.
"""

import torch
from torch import Tensor

from edgeprune.compress.factored import FactoredLinear
from edgeprune.compress.merged_values import first_of_heads

__all__ = ["HeadColumns", "HeadRows"]


class HeadRows(FactoredLinear):
    """v with few values a head.

    Attributes:
        right: [heads * kept, in] parameter.
        left: [heads * head_dim, heads * kept] buffer of zeros and ones, not stored.
        bias: [heads * head_dim] parameter, or None.
        head_count: key-value heads.
    """

    def __init__(self, right: Tensor, head_count: int, out_features: int, bias: Tensor | None = None) -> None:
        """Take the matrix as it is, dtype included; it is not copied.

        Args:
            right: [heads * kept, in].
            head_count: key-value heads.
            out_features: heads * head_dim.
            bias: [out] or None; zero where no value is left.
        """
        self.head_count = head_count
        left = _places(head_count, out_features, len(right)).to(right)
        super().__init__(right, left, bias)
        del self.left
        self.register_buffer("left", left, persistent=False)

    @property
    def kept(self) -> int:
        """Values of a head."""
        return self.rank // self.head_count

    def with_parameters(self, right: Tensor, left: Tensor) -> "HeadRows":
        """The same layer around another matrix; the places stay."""
        return HeadRows(right, self.head_count, self.out_features, self.bias)


class HeadColumns(FactoredLinear):
    """o that reads few values a head.

    Attributes:
        right: [heads * kept, heads * head_dim] buffer of zeros and ones, not stored.
        left: [out, heads * kept] parameter.
        bias: [out] parameter, or None.
        head_count: query heads.
    """

    def __init__(self, left: Tensor, head_count: int, in_features: int, bias: Tensor | None = None) -> None:
        """Take the matrix as it is, dtype included; it is not copied.

        Args:
            left: [out, heads * kept].
            head_count: query heads.
            in_features: heads * head_dim.
            bias: [out] or None.
        """
        self.head_count = head_count
        right = _places(head_count, in_features, left.shape[1]).T.contiguous().to(left)
        super().__init__(right, left, bias)
        del self.right
        self.register_buffer("right", right, persistent=False)

    @property
    def kept(self) -> int:
        """Numbers read of a head."""
        return self.rank // self.head_count

    @property
    def places(self) -> Tensor:
        """[heads * kept] int64: inputs that are read."""
        return first_of_heads(self.head_count, self.in_features // self.head_count, self.kept)

    def with_parameters(self, right: Tensor, left: Tensor) -> "HeadColumns":
        """The same layer around another matrix; the places stay."""
        return HeadColumns(left, self.head_count, self.in_features, self.bias)


def _places(head_count: int, width: int, rank: int) -> Tensor:
    """[width, rank]: one in column j of each head where its j-th number stands."""
    return torch.eye(width)[:, first_of_heads(head_count, width // head_count, rank // head_count)]
