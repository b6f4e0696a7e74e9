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

__all__ = ["UNLABELLED", "Mixture", "distillation_loss"]

_LOGITS_AT_ONCE = 1 << 21
"""Logits computed together: 8 MiB of float32, held about five times; fewer stay nearer to the processor."""

UNLABELLED = -1
"""Label of a token that is learned from the dense model alone."""


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
        labels: [rows] int64, the next tokens; a of eq. (1) is 0 where one is `UNLABELLED`.
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
        share = mixture.text_share
        rows = len(labels)
        hidden_gradient, head_gradient = torch.zeros_like(hidden), torch.zeros_like(head)
        total = hidden.new_zeros((), dtype=torch.float64)
        step = max(1, _LOGITS_AT_ONCE // head.shape[0])
        for start in range(0, rows, step):
            part = slice(start, start + step)
            logits = bend(functional.linear(hidden[part], head).float(), cap)
            wanted = bend(functional.linear(teacher_hidden[part], teacher_head).float(), cap) if share < 1.0 else None
            value, gradient = _of_rows(logits, wanted, labels[part, None], mixture)
            total += value
            gradient = bend_gradient(gradient, logits, cap).div_(rows)
            hidden_gradient[part] = (gradient @ head).to(hidden.dtype)
            head_gradient += (gradient.T @ hidden[part]).to(head.dtype)
        ctx.save_for_backward(hidden_gradient, head_gradient)
        return (total / rows).float()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        hidden_gradient, head_gradient = ctx.saved_tensors
        return hidden_gradient * gradient, head_gradient * gradient, None, None, None, None, None


def _of_rows(logits: Tensor, wanted: Tensor | None, label: Tensor, mixture: Mixture) -> tuple[Tensor, Tensor]:
    """Sum of eq. (1) over rows, and eq. (2): logits and wanted [rows, vocab] float32, label [rows, 1] int64."""
    share = (label != UNLABELLED).to(logits.dtype)
    if wanted is None:
        return _of_text(logits, label, share)
    share, temperature = share * mixture.text_share, mixture.temperature
    if temperature == 1.0:
        # One distribution to learn: that of the dense model and that of the text, mixed.
        target = torch.softmax(wanted, dim=1)
        entropy = ((1.0 - share) * torch.xlogy(target, target).sum(dim=1, keepdim=True)).sum(dtype=torch.float64)
        target.mul_(1.0 - share).scatter_add_(1, label.clamp(min=0), share)
        log_p = torch.log_softmax(logits, dim=1)
        value = entropy - torch.linalg.vecdot(target, log_p).sum(dtype=torch.float64)
        return value, log_p.exp_().sub_(target)
    text, gradient = _of_text(logits, label, share)
    target = torch.softmax(wanted / temperature, dim=1)
    log_p = torch.log_softmax(logits / temperature, dim=1)
    weight = (1.0 - share) * temperature
    divergence = (torch.xlogy(target, target) - target * log_p).sum(dim=1, keepdim=True)
    taught = temperature * (weight * divergence).sum(dtype=torch.float64)
    return text + taught, gradient.add_(log_p.exp_().sub_(target).mul_(weight))


def _of_text(logits: Tensor, label: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """The second part of eqs. (1) and (2), with a share [rows, 1] of its own for each row."""
    places = label.clamp(min=0)
    log_p = torch.log_softmax(logits, dim=1)
    value = -(share * log_p.gather(1, places)).sum(dtype=torch.float64)
    return value, log_p.exp_().mul_(share).scatter_add_(1, places, -share)
