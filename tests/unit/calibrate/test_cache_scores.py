"""The loss of an 8-bit cache: measured on selection text with scales of calibration text, the model left as it was."""

import pytest
import torch
from torch import Tensor

from edgeprune.calibrate.cache_scores import cache_option
from edgeprune.calibrate.kv_rounding import measure_cache_scales, rounded_cache
from edgeprune.calibrate.loss import hidden_states, measure_loss
from edgeprune.calibrate.selection import Selection, prepare_selection
from edgeprune.calibrate.token_bytes import token_byte_lengths
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.events import NullProgress
from tests.tiny import TINY_TEXT


def selection(loaded: LoadedModel, text: str) -> Selection:
    return prepare_selection(
        loaded,
        [text],
        [loaded.tokenizer.encode(text, add_special_tokens=False).ids],
        byte_lengths=token_byte_lengths(loaded.tokenizer),
        window_tokens=32,
        limit_tokens=512,
        progress=NullProgress(),
    )


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_losses_are_those_of_the_rounded_model_on_each_text(
    family: str, windows: Tensor, request: pytest.FixtureRequest
) -> None:
    loaded: LoadedModel = request.getfixturevalue(family)
    domain, general = selection(loaded, TINY_TEXT), selection(loaded, TINY_TEXT[::-1])
    before = hidden_states(loaded, windows[:2].long())
    found = cache_option(loaded, windows, domain, progress=NullProgress(), general=general)
    assert found is not None
    assert (found.kv_bits, found.basis) == (8, "measured")
    assert torch.equal(hidden_states(loaded, windows[:2].long()), before)
    with rounded_cache(loaded, measure_cache_scales(loaded, windows)):
        for text, increase in ((domain, found.loss_increase_nats), (general, found.general_loss_increase_nats)):
            nats, count = measure_loss(loaded, text.windows, progress=NullProgress())
            assert increase == pytest.approx(nats / count - text.loss, abs=1e-7)
            assert 0.0 < abs(increase) < 0.02


def test_without_general_text_its_loss_stays_unknown(llama: LoadedModel, windows: Tensor) -> None:
    found = cache_option(llama, windows, selection(llama, TINY_TEXT), progress=NullProgress())
    assert found is not None
    assert found.general_loss_increase_nats is None
