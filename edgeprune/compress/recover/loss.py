"""The loss of a distillation: the dense model's predictions and the text, a few rows of logits at a time.

For one token with student logits z, teacher logits t and the next token y,

    L = (1 - a) KL(softmax(t) || softmax(z)) + a CE(z, y)                                              (1)

(Hinton, Vinyals and Dean 2015, "Distilling the knowledge in a neural network", section 2, at temperature 1). Both parts
learn one distribution, so its gradient is

    dL/dz = softmax(z) - (1 - a) softmax(t) - a onehot(y)                                              (2)

in closed form: logits exist for a few rows only, and a vocabulary of 150,000 takes no more memory than one of 8,000.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from edgeprune.intake.adapters.logit_cap import bend, bend_gradient

__all__ = ["distillation_loss"]

_LOGITS_AT_ONCE = 1 << 21
"""Logits computed together: 8 MiB of float32, held about five times; fewer stay nearer to the processor."""


def distillation_loss(
    hidden: Tensor,
    head: Tensor,
    labels: Tensor,
    *,
    teacher: tuple[Tensor, Tensor] | None,
    text_share: float,
    cap: float | None = None,
) -> Tensor:
    """Mean of eq. (1) over tokens, in nats; differentiable in `hidden` and `head`.

    Args:
        hidden: [rows, hidden] states before the head.
        head: [vocab, hidden] weight.
        labels: [rows] int64, the next tokens.
        teacher: the same two of the dense model, its head cut to the student's vocabulary; None learns from the text
            alone.
        text_share: a of eq. (1): 1 learns from the text alone, 0 from the dense model alone.
        cap: what the logits of both models are bent under; None leaves them as the heads give them.
    """
    if teacher is None:
        teacher, text_share = (hidden.detach()[:0], head.detach()[:0]), 1.0
    loss: Tensor = _Distilled.apply(hidden, head, labels, *teacher, text_share, cap)
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
        text_share: float,
        cap: float | None,
    ) -> Tensor:
        rows = len(labels)
        hidden_gradient, head_gradient = torch.zeros_like(hidden), torch.zeros_like(head)
        total = hidden.new_zeros((), dtype=torch.float64)
        step = max(1, _LOGITS_AT_ONCE // head.shape[0])
        for start in range(0, rows, step):
            part = slice(start, start + step)
            logits = bend(functional.linear(hidden[part], head).float(), cap)
            wanted = None
            if text_share < 1.0:
                wanted = bend(functional.linear(teacher_hidden[part], teacher_head).float(), cap)
            value, gradient = _of_rows(logits, wanted, labels[part, None], text_share)
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


def _of_rows(logits: Tensor, wanted: Tensor | None, label: Tensor, text_share: float) -> tuple[Tensor, Tensor]:
    """Sum of eq. (1) over rows, and eq. (2): logits and wanted [rows, vocab] float32, label [rows, 1] int64."""
    log_p = torch.log_softmax(logits, dim=1)
    if wanted is None:
        value = -log_p.gather(1, label).sum(dtype=torch.float64)
        return value, log_p.exp_().scatter_add_(1, label, log_p.new_full(label.shape, -1.0))
    target = torch.softmax(wanted, dim=1)
    entropy = (1.0 - text_share) * torch.xlogy(target, target).sum(dtype=torch.float64)
    target.mul_(1.0 - text_share).scatter_add_(1, label, target.new_full(label.shape, text_share))
    value = entropy - torch.linalg.vecdot(target, log_p).sum(dtype=torch.float64)
    return value, log_p.exp_().sub_(target)
