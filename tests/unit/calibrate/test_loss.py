from pathlib import Path

import pytest
import torch
from torch import nn

from edgeprune.calibrate.loss import cut_windows, fused_attention, head_loss, hidden_states, measure_loss
from edgeprune.intake.load import LoadedModel, load_model
from tests.tiny_families import FAMILY_CONFIGS, write_tiny


def test_windows_are_cut_from_each_document_apart() -> None:
    documents = [list(range(5)), [9], list(range(10, 17))]
    assert cut_windows(documents, 3) == [[0, 1, 2], [3, 4], [10, 11, 12], [13, 14, 15]]


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_padding_and_batches_do_not_change_the_loss(name: str, request: pytest.FixtureRequest) -> None:
    loaded: LoadedModel = request.getfixturevalue(name)
    generator = torch.Generator().manual_seed(0)
    windows = [torch.randint(0, 512, (length,), generator=generator).tolist() for length in (64, 3, 17, 64, 2)]
    expected = 0.0
    with torch.no_grad():
        for window in windows:
            tokens = torch.tensor([window])
            expected += float(loaded.model(tokens, labels=tokens).loss) * (len(window) - 1)
    nats, scored = measure_loss(loaded, windows)
    assert scored == 145
    assert nats == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("family", FAMILY_CONFIGS)
def test_fused_attention_changes_no_family_and_leaves_nothing_behind(family: str, tmp_path: Path) -> None:
    loaded = load_model(write_tiny(tmp_path / "model", family))
    tokens = torch.randint(0, 100, (2, 24), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = hidden_states(loaded, tokens)
        with fused_attention(loaded):
            found = hidden_states(loaded, tokens)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert loaded.model.config._attn_implementation == "eager"


@pytest.mark.parametrize("cap", [None, 1.5])
def test_gradient_of_the_loss_matches_autograd_and_unscored_rows_have_none(cap: float | None) -> None:
    torch.manual_seed(0)
    head = nn.Linear(8, 50, bias=True)
    hidden = torch.randn(6, 8, requires_grad=True)
    labels = torch.tensor([1, 2, -1, 49, 0, 7])
    loss = head_loss(hidden.detach(), head, labels, with_gradient=True, cap=cap)
    products = head(hidden)
    products.retain_grad()
    logits = products if cap is None else cap * torch.tanh(products / cap)
    expected = nn.functional.cross_entropy(logits, labels, ignore_index=-1, reduction="sum")
    expected.backward()  # type: ignore[no-untyped-call]  # torch has it so
    assert loss.nats == pytest.approx(float(expected.detach()), rel=1e-6)
    assert loss.hidden_gradient is not None
    assert hidden.grad is not None
    torch.testing.assert_close(loss.hidden_gradient, hidden.grad)
    assert not loss.hidden_gradient[2].any()
    assert products.grad is not None
    assert loss.logit_gradient_square == pytest.approx(float(products.grad.square().sum()), rel=1e-5)
