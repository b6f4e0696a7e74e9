"""What is trained on: calibration text in rounds, mixed; never the text that judges."""

from pathlib import Path

import pytest
import torch

from edgeprune.calibrate.corpus import encode, read_split, write_corpus
from edgeprune.calibrate.split import Split
from edgeprune.compress.recover import data
from edgeprune.compress.recover.data import DOMAIN_FRACTION, RecoveryText, read_recovery_text
from edgeprune.errors import CalibrationError
from tests.unit.compress.recover.cases import WINDOW, Case


def test_windows_come_once_before_any_comes_again(text: RecoveryText) -> None:
    size = 8
    domain = round(size * DOMAIN_FRACTION)
    rounds = len(text.domain) // domain
    seen = [tuple(row) for step in range(rounds) for row in text.batch(step, seed=5)[:domain].tolist()]
    assert len(seen) == rounds * domain
    known = sorted(map(tuple, text.domain.tolist()))
    assert all(seen.count(row) <= known.count(row) for row in set(seen))


def test_batches_are_mixed_and_a_function_of_seed_and_step(text: RecoveryText) -> None:
    general = set(map(tuple, text.general.tolist()))
    batch = text.batch(3, seed=1)
    assert batch.shape == (8, WINDOW)
    assert [tuple(row) in general for row in batch.tolist()] == [False] * 6 + [True] * 2
    assert torch.equal(batch, text.batch(3, seed=1))
    assert not torch.equal(batch, text.batch(4, seed=1))
    assert not torch.equal(batch, text.batch(3, seed=2))


def test_without_general_text_the_domain_fills_the_batches(text: RecoveryText) -> None:
    alone = RecoveryText(domain=text.domain, general=text.general[:0], selection=text.selection)
    domain = set(map(tuple, text.domain.tolist()))
    assert all(tuple(row) in domain for row in alone.batch(0, seed=0).tolist())


def test_selection_text_judges_and_is_not_trained_on(llama: Case, texts: Path, text: RecoveryText) -> None:
    dense, _ = llama
    held = encode(dense.tokenizer, read_split(texts, "domain", "select"))
    assert text.selection[0] in {tuple(document[:WINDOW]) for document in held}
    trained = encode(dense.tokenizer, read_split(texts, "domain", "calibrate"))
    assert not set(map(tuple, held)) & set(map(tuple, trained))
    count = sum(len(tokens) + 1 for tokens in trained)  # and the separator before each
    assert text.domain.numel() == count // WINDOW * WINDOW


def test_what_is_furthest_from_the_text_that_is_learned_judges(
    llama: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned = [f"The keeper of the lamp number {number} slept by the sea and dreamt of rain." for number in range(40)]
    known, new = learned[3].replace("dreamt", "sang"), "Quartz veins cross granite; miners follow their bright edges."
    write_corpus(tmp_path, "domain", Split(calibrate=learned, select=[known, new, known], report=[]))
    write_corpus(tmp_path, "general", Split(calibrate=["General."], select=["General too."], report=[]))
    monkeypatch.setattr(data, "SELECTION_TOKENS", 1)
    found = read_recovery_text(tmp_path, llama[0], context_tokens=WINDOW)
    (tokens,) = encode(llama[0].tokenizer, [new])
    assert found.selection[0] == tuple(tokens[:WINDOW])
    assert sum(map(len, found.selection)) <= len(tokens)


@pytest.mark.parametrize(("calibrate", "select"), [(["too short"], ["A text to judge by, long enough."]), (None, [])])
def test_too_little_text_is_refused(
    llama: Case, texts: Path, tmp_path: Path, calibrate: list[str] | None, select: list[str]
) -> None:
    known = calibrate if calibrate is not None else read_split(texts, "domain", "calibrate")
    write_corpus(tmp_path, "domain", Split(calibrate=known, select=select, report=[]))
    write_corpus(tmp_path, "general", Split(calibrate=["General."], select=["General too."], report=[]))
    with pytest.raises(CalibrationError, match=r"give (more text|a file with text)"):
        read_recovery_text(tmp_path, llama[0], context_tokens=WINDOW)
