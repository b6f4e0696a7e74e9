"""A training that was killed goes on where it stood, to the same weights as one that never was."""

from pathlib import Path

import pytest
import torch

from edgeprune.compress.apply import compress_model
from edgeprune.compress.recover.data import RecoveryText
from edgeprune.compress.recover.recovery import recover
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.events import Event, NullProgress
from edgeprune.schema.recovery import Recovery
from tests.unit.compress.recover.cases import Case, cut


class Killed(BaseException):
    """As a signal would end it: nothing of ours catches it."""


class KilledAfter:
    """A progress that ends the process's work after so many events."""

    def __init__(self, events: int) -> None:
        self.left = events

    def emit(self, _event: Event) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed

    def raise_if_cancelled(self) -> None:
        pass


def student_of(case: Case) -> LoadedModel:
    dense, stats = case
    return compress_model(dense, cut(dense), stats, progress=NullProgress())


@pytest.mark.parametrize(
    "recovery",
    [
        Recovery(mode="auto", steps=12, block_steps=3),
        Recovery(mode="lora", steps=12),
        Recovery(mode="distill", steps=12, freezing="alternate"),
    ],
    ids=lambda recovery: recovery.mode,
)
def test_killed_at_several_moments(llama: Case, text: RecoveryText, tmp_path: Path, recovery: Recovery) -> None:
    dense, _ = llama
    undisturbed = student_of(llama)
    recover(undisturbed, dense, text, recovery, seed=3, progress=NullProgress())
    file = tmp_path / "recovery.safetensors"
    kills = 0
    for events in (1, 3):
        with pytest.raises(Killed):
            recover(student_of(llama), dense, text, recovery, seed=3, progress=KilledAfter(events), checkpoint=file)
        kills += 1
    resumed = student_of(llama)
    seen: list[Event] = []

    class Seen(NullProgress):
        def emit(self, event: Event) -> None:
            seen.append(event)

    recover(resumed, dense, text, recovery, seed=3, progress=Seen(), checkpoint=file)
    assert kills == 2
    assert not any("block 1 of" in event.message for event in seen)
    assert not any(event.message.startswith("recovery: step 1 of") for event in seen)
    wanted, found = undisturbed.model.state_dict(), resumed.model.state_dict()
    assert wanted.keys() == found.keys()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)


def test_what_is_kept_of_other_work_is_not_taken(llama: Case, text: RecoveryText, tmp_path: Path) -> None:
    dense, _ = llama
    file = tmp_path / "recovery.safetensors"
    first, other = Recovery(mode="distill", steps=6), Recovery(mode="distill", steps=7)
    recover(student_of(llama), dense, text, first, seed=0, progress=NullProgress(), checkpoint=file)
    beside, alone = student_of(llama), student_of(llama)
    recover(beside, dense, text, other, seed=0, progress=NullProgress(), checkpoint=file)
    recover(alone, dense, text, other, seed=0, progress=NullProgress())
    wanted, found = alone.model.state_dict(), beside.model.state_dict()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)


def test_a_damaged_file_is_as_good_as_none(llama: Case, text: RecoveryText, tmp_path: Path) -> None:
    dense, _ = llama
    file = tmp_path / "recovery.safetensors"
    file.write_bytes(b"not a checkpoint")
    recovery = Recovery(mode="distill", steps=3)
    beside, alone = student_of(llama), student_of(llama)
    recover(beside, dense, text, recovery, seed=0, progress=NullProgress(), checkpoint=file)
    recover(alone, dense, text, recovery, seed=0, progress=NullProgress())
    wanted, found = alone.model.state_dict(), beside.model.state_dict()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)
