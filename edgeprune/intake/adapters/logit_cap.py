"""Logits bent under a cap, as Gemma 2 has them (arXiv 2408.00118, section 2): cap * tanh(head's product / cap)."""

from torch import Tensor

__all__ = ["bend", "bend_gradient"]


def bend(products: Tensor, cap: float | None) -> Tensor:
    """Logits [..., vocab] from the head's products, which are the logits where there is no cap."""
    return products if cap is None else (products / cap).tanh().mul(cap)


def bend_gradient(gradient: Tensor, logits: Tensor, cap: float | None) -> Tensor:
    """Gradient with respect to the head's products from that with respect to the logits [..., vocab]."""
    # d tanh(x) = 1 - tanh(x)^2, and logits / cap is that tanh.
    return gradient if cap is None else gradient * (1 - (logits / cap).square())
