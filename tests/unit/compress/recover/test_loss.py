"""The closed-form gradient is the one torch finds, however few rows are computed at a time."""

import pytest
import torch
from torch.nn import functional

from edgeprune.compress.recover import loss
from edgeprune.compress.recover.loss import distillation_loss

ROWS, VOCAB, WIDTH = 7, 19, 5


def tensors() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)

    def drawn(rows: int) -> torch.Tensor:
        return torch.randn(rows, WIDTH, generator=generator)

    return drawn(ROWS), drawn(VOCAB), drawn(ROWS), drawn(VOCAB)


def reference(
    hidden: torch.Tensor, head: torch.Tensor, labels: torch.Tensor, share: float, cap: float | None
) -> torch.Tensor:
    """Eq. (1) as it stands."""
    _, _, other, other_head = tensors()
    logits, wanted = hidden @ head.T, other @ other_head.T
    if cap is not None:
        logits, wanted = cap * torch.tanh(logits / cap), cap * torch.tanh(wanted / cap)
    divergence = functional.kl_div(
        torch.log_softmax(logits, 1), torch.log_softmax(wanted, 1), log_target=True, reduction="batchmean"
    )
    return (1 - share) * divergence + share * functional.cross_entropy(logits, labels)


@pytest.mark.parametrize("share", [0.5, 0.3, 0.0, 1.0])
@pytest.mark.parametrize(("rows_at_once", "cap"), [(1, None), (3, None), (100, None), (3, 1.5)])
def test_value_and_gradients(
    monkeypatch: pytest.MonkeyPatch, share: float, rows_at_once: int, cap: float | None
) -> None:
    monkeypatch.setattr(loss, "_LOGITS_AT_ONCE", rows_at_once * VOCAB)
    labels = torch.arange(ROWS) * 2
    hidden, head, other, other_head = tensors()
    inputs = hidden.requires_grad_(), head.requires_grad_()
    found = distillation_loss(*inputs, labels, teacher=(other, other_head), text_share=share, cap=cap)
    wanted = reference(*inputs, labels, share, cap)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)
    pairs = zip(torch.autograd.grad(2.0 * found, inputs), torch.autograd.grad(2.0 * wanted, inputs), strict=True)
    assert all(torch.allclose(mine, theirs, atol=1e-6) for mine, theirs in pairs)


def test_without_a_teacher_the_text_is_all() -> None:
    hidden, head, _, _ = tensors()
    labels = torch.zeros(ROWS, dtype=torch.long)
    found = distillation_loss(hidden, head, labels, teacher=None, text_share=0.2)
    assert float(found) == pytest.approx(float(functional.cross_entropy(hidden @ head.T, labels)), rel=1e-5)
