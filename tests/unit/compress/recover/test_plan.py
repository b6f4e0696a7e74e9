"""Minutes become steps by the machine's own speed, and planning leaves no trace in any model."""

import itertools
import math
from dataclasses import replace

import pytest
import torch

from edgeprune.compress.apply import compress_model
from edgeprune.compress.recover.data import RecoveryText
from edgeprune.compress.recover.plan import (
    ADAPT_ROUNDS,
    ADAPT_SHARE,
    BLOCK_SHARE,
    USED_SHARE,
    fitting_steps,
    plan_recovery,
)
from edgeprune.compress.recover.speed import Speed
from edgeprune.errors import UsageError
from edgeprune.schema.events import NullProgress
from edgeprune.schema.recovery import RECOVERY_MODES, RecoveryMode
from tests.unit.compress.recover.cases import Case, cut

SPEED = Speed(step_s=2.0, block_step_s=1.0, measure_s=1.0, precision="bfloat16")


def test_the_steps_fill_the_minutes() -> None:
    seconds = 600.0 * USED_SHARE
    found = fitting_steps(SPEED, minutes=10.0, mode="auto")
    spent = 11.0 + found.block_steps * SPEED.block_step_s + found.steps * SPEED.step_s
    assert seconds - 2.0 < spent <= seconds
    assert found.block_steps == int(BLOCK_SHARE * (seconds - 11.0))
    assert found.precision == "bfloat16"
    assert fitting_steps(SPEED, minutes=10.0, mode="blockwise").block_steps == int(seconds)
    assert fitting_steps(SPEED, minutes=10.0, mode="distill").steps == int((seconds - 11.0) / 2.0)


@pytest.mark.parametrize("teacher_steps", [50.0, math.inf])
def test_the_dense_models_passes_are_part_of_the_minutes(teacher_steps: float) -> None:
    speed = replace(SPEED, teacher_s=1.0, teacher_steps=teacher_steps)
    found = fitting_steps(speed, minutes=10.0, mode="distill")
    spent = 11.0 + 2.0 * found.steps + min(found.steps, teacher_steps)
    assert 600.0 * USED_SHARE - 3.0 < spent <= 600.0 * USED_SHARE


def test_the_dense_model_reads_the_text_as_often_as_is_of_use_within_its_share() -> None:
    speed = replace(SPEED, adapt_step_s=3.0, adapt_measure_s=2.0, fresh_steps=20)
    seconds = 600.0 * USED_SHARE
    found = fitting_steps(speed, minutes=10.0, mode="auto")
    spent = 11.0 + found.block_steps + 2.0 * found.steps + 3.0 * found.adapt_steps + 10.0
    assert found.adapt_steps == round(20 * ADAPT_ROUNDS)
    assert seconds - 3.0 < spent <= seconds
    long = fitting_steps(replace(speed, fresh_steps=1000), minutes=10.0, mode="auto")
    share = (3.0 * long.adapt_steps + 10.0) / (seconds - 11.0)
    assert ADAPT_SHARE - 0.01 < share <= ADAPT_SHARE
    assert fitting_steps(speed, minutes=10.0, mode="distill").adapt_steps == 0
    assert fitting_steps(speed, minutes=0.8, mode="auto").adapt_steps == 0


@pytest.mark.parametrize("mode", RECOVERY_MODES)
def test_every_plan_is_a_recovery_and_too_few_minutes_are_refused(mode: RecoveryMode) -> None:
    assert fitting_steps(SPEED, minutes=5.0, mode=mode).defect is None
    with pytest.raises(UsageError, match="at least"):
        fitting_steps(SPEED, minutes=0.01, mode=mode)


def test_the_minutes_a_refusal_names_are_enough() -> None:
    with pytest.raises(UsageError) as refusal:
        fitting_steps(SPEED, minutes=0.01, mode="distill")
    named = float(str(refusal.value).split("at least ")[1].rstrip("."))
    assert fitting_steps(SPEED, minutes=named, mode="distill").steps >= 1


@pytest.mark.parametrize("mode", RECOVERY_MODES)
def test_planning_leaves_no_trace(llama: Case, text: RecoveryText, mode: RecoveryMode) -> None:
    dense, stats = llama
    student = compress_model(dense, cut(dense), stats, progress=NullProgress())
    before = [{name: value.clone() for name, value in loaded.model.state_dict().items()} for loaded in (student, dense)]
    ticks = itertools.count()
    found = plan_recovery(student, dense, text, minutes=5.0, mode=mode, seed=0, clock=lambda: float(next(ticks)))
    assert found.defect is None
    assert found.mode == mode
    for values, loaded in zip(before, (student, dense), strict=True):
        after = loaded.model.state_dict()
        assert values.keys() == after.keys()
        assert all(torch.equal(values[name], after[name]) for name in values)
        assert not any(parameter.requires_grad for parameter in student.model.parameters())
