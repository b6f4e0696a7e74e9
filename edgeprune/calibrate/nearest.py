"""Rounding each weight to the nearest value its kernel can hold; see `edgeprune.rounding`."""

import torch
from torch import Tensor

from edgeprune.rounding import dequantized

__all__ = ["rounded"]


def rounded(weight: Tensor, kernel: str) -> Tensor:
    """A new float32 tensor with the values a kernel computes with.

    Args:
        weight: [out, in] float32.
        kernel: its name.
    """
    return torch.from_numpy(dequantized(weight.detach().contiguous().numpy(), kernel))
