"""A linear site kept as two factors: y = left (right x) + b.

Takes and gives what `torch.nn.Linear` does; stores rank * (in + out) numbers instead of in * out, and never multiplies
the factors back together.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["FactoredLinear", "SharedLinear"]


class FactoredLinear(nn.Module):
    """Low-rank linear layer.

    Attributes:
        right: [rank, in] parameter, first factor.
        left: [out, rank] parameter, second factor.
        bias: [out] parameter, or None.
    """

    right: nn.Parameter
    left: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, right: Tensor, left: Tensor, bias: Tensor | None = None) -> None:
        """Take the factors as they are, dtype included; they are not copied.

        Args:
            right: [rank, in].
            left: [out, rank].
            bias: [out] or None.
        """
        super().__init__()
        assert right.ndim == left.ndim == 2, (right.shape, left.shape)
        assert left.shape[1] == right.shape[0], (right.shape, left.shape)
        self.right = nn.Parameter(right, requires_grad=False)
        self.left = nn.Parameter(left, requires_grad=False)
        assert bias is None or bias.shape == (self.out_features,), bias.shape
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    @property
    def in_features(self) -> int:
        """Width of the input."""
        return self.right.shape[1]

    @property
    def out_features(self) -> int:
        """Width of the output."""
        return self.left.shape[0]

    @property
    def rank(self) -> int:
        """Directions kept."""
        return self.right.shape[0]

    def product(self) -> Tensor:
        """Multiply the factors, [out, in]: for error measurements only, the model never stores it."""
        return self.left.detach().double() @ self.right.detach().double()

    def forward(self, inputs: Tensor) -> Tensor:
        """Multiply [..., in] by the right, then the left factor; [..., out]."""
        return functional.linear(functional.linear(inputs, self.right), self.left, self.bias)

    def extra_repr(self) -> str:
        """Widths and rank, as `print(model)` shows them."""
        return f"in_features={self.in_features}, rank={self.rank}, out_features={self.out_features}, " + (
            f"bias={self.bias is not None}"
        )

    def with_parameters(self, right: Tensor, left: Tensor) -> "FactoredLinear":
        """The same layer around other factors of the same shapes."""
        return type(self)(right, left, self.bias)

    @classmethod
    def empty(cls, *, in_features: int, rank: int, out_features: int, has_bias: bool) -> "FactoredLinear":
        """Float32 factors without values, to load tensors into."""
        return cls(
            torch.empty(rank, in_features),
            torch.empty(out_features, rank),
            torch.empty(out_features) if has_bias else None,
        )


class SharedLinear(FactoredLinear):
    """Low-rank linear layer whose right factor is another layer's.

    Both hold one parameter once `edgeprune.compress.share.share_right_factors` has been over the model.
    """
