"""Muon in single precision: momentum steps on weight matrices, each made orthogonal first.

`torch.optim.Muon` works in bfloat16, which is several times slower than float32 on a CPU without bfloat16 units, and
one matrix at a time; here equal shapes go through the iteration as one batch.
Source: K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024 (update and coefficients).
"""

from collections import defaultdict
from collections.abc import Iterable

import torch

__all__ = ["Muon", "orthogonalised"]

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


class Muon:
    """Optimizer for two-dimensional weights; the caller sets `rate` before each step.

    Args:
        weights: parameters of shape [out, in].
        rate: step length; a step moves every weight by about `rate` * 0.2 root mean square.
        decay: share of the weight taken off per unit of `rate`.
        momentum: share of the running gradient kept per step (Nesterov).
    """

    def __init__(
        self, weights: Iterable[torch.nn.Parameter], *, rate: float, decay: float, momentum: float = 0.95
    ) -> None:
        self.rate = rate
        self._momentum, self._decay = momentum, decay
        groups: dict[tuple[int, ...], list[torch.nn.Parameter]] = defaultdict(list)
        for weight in weights:
            groups[tuple(weight.shape)].append(weight)
        self._groups = list(groups.values())
        self._running = [torch.zeros(len(group), *group[0].shape) for group in self._groups]

    @torch.no_grad()
    def step(self) -> None:
        """Apply the gradients held by the weights and drop them."""
        for group, running in zip(self._groups, self._running, strict=True):
            grads = [weight.grad for weight in group]
            gradient = torch.stack([grad for grad in grads if grad is not None])
            running.lerp_(gradient, 1 - self._momentum)
            update = orthogonalised(gradient.lerp_(running, self._momentum))
            # 0.2 * sqrt(longer side) gives every update the size of an Adam step, whatever the shape.
            scale = 0.2 * max(group[0].shape) ** 0.5 * self.rate
            for weight, direction in zip(group, update, strict=True):
                weight.mul_(1 - self.rate * self._decay).add_(direction, alpha=-scale)
                weight.grad = None


def orthogonalised(matrices: torch.Tensor) -> torch.Tensor:
    """Matrices with the same singular vectors and singular values near 1, by a Newton-Schulz iteration.

    Args:
        matrices: [batch, out, in] float32.
    """
    a, b, c = _COEFFICIENTS
    is_tall = matrices.shape[1] > matrices.shape[2]
    x: torch.Tensor = matrices.transpose(1, 2) if is_tall else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.transpose(1, 2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.transpose(1, 2) if is_tall else x
