"""Errors of a site's outputs weighted by what they do to the loss: the output side of K-FAC.

With the gradient g of the loss with respect to a site's output and Q = E[g g^T], a change dW of its weight under inputs
of second moment S is expected to add tr(Q dW S dW^T) / 2 nats a token (Martens and Grosse, arXiv 1503.05671, with
gradients of the text itself). Truncation is best in the metric of Q, and comparable across sites:

    (1)  K K^T = Q + damping * mean(diag Q) I,  R = K^T
    (2)  R W S W^T R^T = V diag(lambda) V^T,  W' = R^{-1} V_r V_r^T R W,  loss(r) = sum_{i > r} lambda_i / 2

Any R with R^T R = Q gives the same W' and the same losses; the Cholesky factor is the cheapest, and R^{-1} is a
triangular solve. Without damping the directions that the few gradients never met would be free of charge. A tenth was
better on selection text than a thousandth: +0.130 against +0.135 nats at 0.8 of every site of a 14-million-parameter
model, and +0.152 without Q.
"""

from dataclasses import dataclass

import torch
from scipy.linalg import blas, lapack
from torch import Tensor

__all__ = ["OutputRoot", "output_root"]

_DAMPING = 0.1


@dataclass(frozen=True)
class OutputRoot:
    """R of eq. (1), by its transpose."""

    factor: Tensor
    """[out, out] float64, K: lower triangle."""

    def weigh(self, weight: Tensor) -> Tensor:
        """R W: [out, n] float64 -> the same."""
        K, W = self.factor.numpy(), weight.numpy()
        # As W^T K: a transposed array is what Fortran takes without a copy.
        return torch.from_numpy(blas.dtrmm(1.0, K.T, W.T, side=1, lower=0, trans_a=1).T)

    def unweigh(self, directions: Tensor) -> Tensor:
        """R^{-1} V: [out, n] float64 -> the same."""
        return torch.linalg.solve_triangular(self.factor.T, directions, upper=True)


def output_root(output_gram: Tensor | None) -> OutputRoot | None:
    """R of eq. (1); None where nothing is known or no gradient arrived."""
    if output_gram is None:
        return None
    Q = (output_gram.double() + output_gram.double().T) / 2
    scale = float(Q.diagonal().mean())
    if not scale > 0.0:
        return None
    Q.diagonal().add_(_DAMPING * scale)
    K, failed = lapack.dpotrf(Q.numpy().T, lower=1, clean=1)
    if failed:
        raise torch.linalg.LinAlgError("the gradients of the outputs are not finite")  # type: ignore[attr-defined]
    return OutputRoot(torch.from_numpy(K))
