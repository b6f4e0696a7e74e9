"""The closed-form gradient is the one torch finds, however few rows are computed at a time."""

import pytest
import torch
from torch.nn import functional

from edgeprune.compress.recover import loss
from edgeprune.compress.recover.loss import UNLABELLED, Mixture, distillation_loss

ROWS, VOCAB, WIDTH = 7, 19, 5


def tensors() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)

    def drawn(rows: int) -> torch.Tensor:
        return torch.randn(rows, WIDTH, generator=generator)

    return drawn(ROWS), drawn(VOCAB), drawn(ROWS), drawn(VOCAB)


def reference(
    hidden: torch.Tensor, head: torch.Tensor, labels: torch.Tensor, mixture: Mixture, cap: float | None
) -> torch.Tensor:
    """Eq. (1) as it stands."""
    _, _, other, other_head = tensors()
    share, temperature = mixture
    logits, wanted = hidden @ head.T, other @ other_head.T
    if cap is not None:
        logits, wanted = cap * torch.tanh(logits / cap), cap * torch.tanh(wanted / cap)
    divergence = functional.kl_div(
        torch.log_softmax(logits / temperature, 1),
        torch.log_softmax(wanted / temperature, 1),
        log_target=True,
        reduction="batchmean",
    )
    return (1 - share) * temperature**2 * divergence + share * functional.cross_entropy(logits, labels)


@pytest.mark.parametrize("mixture", [Mixture(0.5, 1.0), Mixture(0.3, 2.0), Mixture(0.0, 1.5), Mixture(1.0, 1.0)])
@pytest.mark.parametrize(("rows_at_once", "cap"), [(1, None), (3, None), (100, None), (3, 1.5)])
def test_value_and_gradients(
    monkeypatch: pytest.MonkeyPatch, mixture: Mixture, rows_at_once: int, cap: float | None
) -> None:
    monkeypatch.setattr(loss, "_LOGITS_AT_ONCE", rows_at_once * VOCAB)
    labels = torch.arange(ROWS) * 2
    hidden, head, other, other_head = tensors()
    inputs = hidden.requires_grad_(), head.requires_grad_()
    found = distillation_loss(*inputs, labels, teacher=(other, other_head), mixture=mixture, cap=cap)
    wanted = reference(*inputs, labels, mixture, cap)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)
    pairs = zip(torch.autograd.grad(2.0 * found, inputs), torch.autograd.grad(2.0 * wanted, inputs), strict=True)
    assert all(torch.allclose(mine, theirs, atol=1e-6) for mine, theirs in pairs)


def test_without_a_teacher_the_text_is_all() -> None:
    hidden, head, _, _ = tensors()
    labels = torch.zeros(ROWS, dtype=torch.long)
    found = distillation_loss(hidden, head, labels, teacher=None, mixture=Mixture(0.2, 2.0))
    assert float(found) == pytest.approx(float(functional.cross_entropy(hidden @ head.T, labels)), rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_what_has_no_label_is_learned_from_the_dense_model_alone(temperature: float) -> None:
    hidden, head, other, other_head = tensors()
    labels = torch.arange(ROWS) * 2
    unlabelled = labels.clone()
    unlabelled[2:5] = UNLABELLED

    def found(rows: slice, given: torch.Tensor, share: float) -> torch.Tensor:
        mixture = Mixture(share, temperature)
        return distillation_loss(
            hidden[rows], head, given[rows], teacher=(other[rows], other_head), mixture=mixture
        ) * len(labels[rows])

    inputs = hidden.requires_grad_(), head.requires_grad_()
    whole = found(slice(None), unlabelled, 0.4)
    parts = found(slice(2), labels, 0.4) + found(slice(2, 5), labels, 0.0) + found(slice(5, None), labels, 0.4)
    assert whole.item() == pytest.approx(parts.item(), rel=1e-5)
    pairs = zip(torch.autograd.grad(whole, inputs), torch.autograd.grad(parts, inputs), strict=True)
    assert all(torch.allclose(mine, theirs, atol=1e-6) for mine, theirs in pairs)
