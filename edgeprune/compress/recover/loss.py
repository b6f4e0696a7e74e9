"""The loss of a distillation: the dense model's predictions and the text, a few rows of logits at a time.

For one token with student logits z, teacher logits t, temperature T and the next token y,

    L = (1 - a) T^2 KL(softmax(t / T) || softmax(z / T)) + a CE(z, y)                                  (1)

(Hinton, Vinyals and Dean 2015, "Distilling the knowledge in a neural network", section 2: the factor T^2 keeps the
gradients of both parts alike). Its gradient is known in closed form,

    dL/dz = (1 - a) T (softmax(z / T) - softmax(t / T)) + a (softmax(z) - onehot(y))                   (2)

so logits exist for a few rows only, and a vocabulary of 150,000 takes no more memory than one of 8,000.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from edgeprune.intake.adapters.logit_cap import bend, bend_gradient

__all__ = ["Mixture", "distillation_loss"]

_LOGITS_AT_ONCE = 1 << 22
"""Logits computed together: 16 MiB of float32, held about five times."""


class Mixture(NamedTuple):
    """What is learned from."""

    text_share: float = 0.5
    """a of eq. (1): 1 learns from the text alone, 0 from the dense model alone."""
    temperature: float = 1.0
    """T of eq. (1)."""


def distillation_loss(
    hidden: Tensor,
    head: Tensor,
    labels: Tensor,
    *,
    teacher: tuple[Tensor, Tensor] | None,
    mixture: Mixture,
    cap: float | None = None,
) -> Tensor:
    """Mean of eq. (1) over tokens, in nats; differentiable in `hidden` and `head`.

    Args:
        hidden: [rows, hidden] states before the head.
        head: [vocab, hidden] weight.
        labels: [rows] int64, the next tokens.
        teacher: the same two of the dense model, its head cut to the student's vocabulary; None learns from the text
            alone.
        mixture: shares.
        cap: what the logits of both models are bent under; None leaves them as the heads give them.
    """
    if teacher is None:
        teacher, mixture = (hidden.detach()[:0], head.detach()[:0]), Mixture(text_share=1.0)
    loss: Tensor = _Distilled.apply(hidden, head, labels, *teacher, mixture, cap)
    return loss


class _Distilled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        head: Tensor,
        labels: Tensor,
        teacher_hidden: Tensor,
        teacher_head: Tensor,
        mixture: Mixture,
        cap: float | None,
    ) -> Tensor:
        share, temperature = mixture
        rows = len(labels)
        hidden_gradient, head_gradient = torch.zeros_like(hidden), torch.zeros_like(head)
        total = hidden.new_zeros((), dtype=torch.float64)
        step = max(1, _LOGITS_AT_ONCE // head.shape[0])
        for start in range(0, rows, step):
            part = slice(start, start + step)
            logits = bend(functional.linear(hidden[part], head).float(), cap)
            label = labels[part][:, None]
            gradient = torch.zeros_like(logits)
            if share > 0.0:
                log_p = torch.log_softmax(logits, dim=1)
                total -= share * log_p.gather(1, label).sum(dtype=torch.float64)
                gradient = log_p.exp_().mul_(share)
                gradient.scatter_add_(1, label, torch.full_like(label, -share, dtype=gradient.dtype))
            if share < 1.0:
                log_p = torch.log_softmax(logits / temperature, dim=1)
                wanted = bend(functional.linear(teacher_hidden[part], teacher_head).float(), cap)
                log_q = torch.log_softmax(wanted / temperature, dim=1)
                q = log_q.exp()
                weight = (1.0 - share) * temperature
                total += weight * temperature * (q * (log_q - log_p)).sum(dtype=torch.float64)  # eq. (1)
                gradient += log_p.exp_().sub_(q).mul_(weight)  # eq. (2)
            gradient = bend_gradient(gradient, logits, cap) / rows
            hidden_gradient[part] = (gradient @ head).to(hidden.dtype)
            head_gradient += (gradient.T @ hidden[part]).to(head.dtype)
        ctx.save_for_backward(hidden_gradient, head_gradient)
        return (total / rows).float()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        hidden_gradient, head_gradient = ctx.saved_tensors
        return hidden_gradient * gradient, head_gradient * gradient, None, None, None, None, None
