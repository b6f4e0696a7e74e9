"""What the dense model made of a window is made once, within a bound, and is what it would make again."""

import pytest
import torch

from edgeprune.calibrate.loss import hidden_states
from edgeprune.compress.apply import compress_model
from edgeprune.compress.recover import vocabulary
from edgeprune.compress.recover.data import RecoveryText
from edgeprune.compress.recover.vocabulary import Teacher
from edgeprune.schema.events import NullProgress
from edgeprune.schema.recipe import KeepTokens
from tests.unit.compress.recover.cases import WINDOW, Case, cut


def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Windows of each pass of the dense model from now on."""
    made: list[int] = []

    def watched(loaded: object, tokens: torch.Tensor) -> torch.Tensor:
        made.append(len(tokens))
        return hidden_states(loaded, tokens)  # type: ignore[arg-type]

    monkeypatch.setattr(vocabulary, "hidden_states", watched)
    return made


def test_a_window_is_read_once_and_its_states_are_the_dense_models(
    llama: Case, text: RecoveryText, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense, _ = llama
    teacher, made = Teacher(dense, dense), passes(monkeypatch)
    batch = text.batch(0, seed=0)
    first = teacher.hidden(batch)
    again = teacher.hidden(batch.flip(0)).flip(0)
    assert made == [len(batch)]
    assert torch.equal(first, again)
    with torch.no_grad():
        torch.testing.assert_close(first, hidden_states(dense, batch), rtol=1e-4, atol=1e-5)


def test_in_bfloat16_what_is_kept_gives_the_same_products(llama: Case, text: RecoveryText) -> None:
    dense, _ = llama
    teacher = Teacher(dense, dense)
    batch = text.batch(0, seed=0)
    with torch.autocast("cpu", torch.bfloat16):
        first, again = teacher.hidden(batch), teacher.hidden(batch)
        assert again.dtype == torch.bfloat16
        assert torch.equal(first @ teacher.head.T, again @ teacher.head.T)


def test_states_that_are_kept_stay_within_their_bound(
    llama: Case, text: RecoveryText, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense, _ = llama
    monkeypatch.setattr(vocabulary, "HIDDEN_BYTES", 8 * 4 * WINDOW * dense.spec.hidden_size)
    teacher, made = Teacher(dense, dense), passes(monkeypatch)
    assert teacher.keeps(8, WINDOW)
    assert not teacher.keeps(9, WINDOW)
    for step in (0, 1, 0, 1):
        teacher.hidden(text.batch(step, seed=0))
    assert made == [8, 8, 8], "the first batch fills the bound, the second is read whenever it comes"


def test_every_window_was_read_after_the_fresh_steps(text: RecoveryText) -> None:
    known = set(map(tuple, torch.cat([text.domain, text.general]).tolist()))
    seen = [set(map(tuple, text.batch(step, seed=3).tolist())) for step in range(text.fresh_steps)]
    assert set().union(*seen) == known
    assert set().union(*seen[:-1]) != known


def test_a_smaller_vocabulary_is_read_in_the_dense_models_ids(llama: Case, text: RecoveryText) -> None:
    dense, stats = llama
    student = compress_model(dense, cut(dense, keep_tokens=KeepTokens(kept_count=400)), stats, progress=NullProgress())
    teacher = Teacher(dense, student)
    assert teacher.head.shape == (400, dense.spec.hidden_size)
    windows = torch.arange(2 * WINDOW).reshape(2, WINDOW)
    texts = [student.tokenizer.id_to_token(number) for number in range(2 * WINDOW)]
    assert [dense.tokenizer.id_to_token(int(number)) for number in teacher.tokens(windows).flatten()] == texts
