"""What the dense model writes begins as the domain does, goes on as the model would, and is the same every time."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace

from edgeprune.calibrate.loss import measure_loss
from edgeprune.compress.apply import compress_model
from edgeprune.compress.recover import written
from edgeprune.compress.recover.data import RecoveryText, read_recovery_text
from edgeprune.compress.recover.recovery import recover
from edgeprune.compress.recover.vocabulary import Teacher
from edgeprune.compress.recover.written import prompt_tokens, windows_at_once, write_windows
from edgeprune.errors import Cancelled
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.events import Event, NullProgress
from edgeprune.schema.recipe import KeepTokens
from edgeprune.schema.recovery import Recovery
from tests.unit.compress.recover.cases import WINDOW, Case, cut


def written_by(dense: LoadedModel, text: RecoveryText, count: int, seed: int = 0) -> torch.Tensor:
    return write_windows(Teacher(dense, dense), text.domain, count, seed=seed, progress=NullProgress())


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3"])
def test_windows_begin_as_the_domain_does(case: Callable[[str], Case], texts: Path, family: str) -> None:
    dense, _ = case(family)
    text = read_recovery_text(texts, dense, context_tokens=WINDOW)
    found = written_by(dense, text, 5)
    assert found.shape == (5, WINDOW)
    assert found.dtype == text.domain.dtype
    prompt = prompt_tokens(WINDOW)
    pieces = {tuple(piece) for piece in text.domain.unfold(1, prompt, 1).flatten(0, 1).tolist()}
    assert all(tuple(row[:prompt]) in pieces for row in found.tolist())
    assert torch.equal(found, written_by(dense, text, 5))
    assert not torch.equal(found, written_by(dense, text, 5, seed=1))


def test_they_go_on_as_the_model_would(llama: Case, text: RecoveryText) -> None:
    """What a model draws surprises it by its entropy, which is less than a draw from all tokens alike surprises it."""
    dense, _ = llama
    own = written_by(dense, text, 48).tolist()
    drawn = torch.randint(0, dense.spec.vocab_size, (48, WINDOW), generator=torch.Generator().manual_seed(0)).tolist()
    losses = [nats / count for nats, count in (measure_loss(dense, rows) for rows in (own, drawn))]
    assert losses[0] < losses[1] - 0.02


def test_a_smaller_vocabulary_is_written_in_its_own_tokens(llama: Case, texts: Path) -> None:
    dense, stats = llama
    recipe = replace(cut(dense), keep_tokens=KeepTokens(kept_count=400))
    student = compress_model(dense, recipe, stats, progress=NullProgress())
    text = read_recovery_text(texts, student, context_tokens=WINDOW)
    teacher = Teacher(dense, student)
    found = write_windows(teacher, text.domain, 8, seed=0, progress=NullProgress())
    assert int(found.min()) >= 0
    assert int(found.max()) < 400
    assert int(teacher.tokens(found.long()).max()) >= 400, "the dense model's ids are others"


def test_few_are_written_at_once_where_caches_are_large(llama: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = Teacher(llama[0], llama[0])
    assert windows_at_once(teacher, WINDOW) == written.MOST_AT_ONCE
    heads = sum(block.num_kv_heads * block.head_dim for block in llama[0].spec.blocks)
    monkeypatch.setattr(written, "CACHE_BYTES", 3 * 2 * 4 * WINDOW * heads + 1)
    assert windows_at_once(teacher, WINDOW) == 3


def test_a_recovery_trains_on_them_and_says_so(llama: Case, text: RecoveryText) -> None:
    dense, stats = llama
    said: list[str] = []

    class Said(NullProgress):
        def emit(self, event: Event) -> None:
            said.append(event.message)

    trained = []
    for count in (0, 70):
        student = compress_model(dense, cut(dense), stats, progress=NullProgress())
        plan = Recovery(mode="distill", steps=4, written_windows=count)
        recover(student, dense, text, plan, seed=0, progress=Said())
        trained.append(student.model.state_dict())
    assert [line for line in said if "wrote" in line] == [
        "recovery: the dense model wrote 64 of 70 windows",
        "recovery: the dense model wrote 70 of 70 windows",
    ]
    assert any(not torch.equal(value, trained[1][name]) for name, value in trained[0].items())


def test_writing_can_be_cancelled(llama: Case, text: RecoveryText) -> None:
    class Stopping(NullProgress):
        def raise_if_cancelled(self) -> None:
            raise Cancelled("stopped")

    teacher = Teacher(llama[0], llama[0])
    with pytest.raises(Cancelled):
        write_windows(teacher, text.domain, 4, seed=0, progress=Stopping())
