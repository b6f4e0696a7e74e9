"""Errors of a site's outputs weighted by what they do to the loss: the output side of K-FAC.

With the gradient g of the loss with respect to a site's output and Q = E[g g^T], a change dW of its weight under inputs
of second moment S is expected to add tr(Q dW S dW^T) / 2 nats a token (Martens and Grosse, arXiv 1503.05671, with
gradients of the text itself). Truncation is best in the metric of Q, and comparable across sites:

    (1)  R = (Q + damping * mean(diag Q) I)^{1/2}
    (2)  R W S W^T R = V diag(lambda) V^T,  W' = R^{-1} V_r V_r^T R W,  loss(r) = sum_{i > r} lambda_i / 2

Without damping the directions that the few gradients never met would be free of charge. A tenth was better on selection
text than a thousandth: +0.130 against +0.135 nats at 0.8 of every site of a 14-million-parameter model, and +0.152
without Q.
"""

import torch
from torch import Tensor

__all__ = ["output_root"]

_DAMPING = 0.1


def output_root(output_gram: Tensor | None) -> tuple[Tensor, Tensor] | None:
    """R of eq. (1) and its inverse, [out, out] float64; None where nothing is known or no gradient arrived."""
    if output_gram is None:
        return None
    Q = (output_gram.double() + output_gram.double().T) / 2
    scale = float(Q.diagonal().mean())
    if not scale > 0.0:
        return None
    values, basis = torch.linalg.eigh(Q)
    roots = (values.clamp_min(0.0) + _DAMPING * scale).sqrt()
    return (basis * roots) @ basis.T, (basis / roots) @ basis.T
