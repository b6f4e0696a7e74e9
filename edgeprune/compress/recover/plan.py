"""How many steps fit into so many minutes on this machine: measured on the very model, in every precision it can.

Only the plan depends on the machine's speed. What is done is the number of steps, which the recipe keeps; so a repeat
on another machine, or on this one when it is busy, does the same.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from edgeprune.calibrate.loss import measure_loss
from edgeprune.compress.recover.blockwise import BLOCK_RATES, train_block
from edgeprune.compress.recover.data import RecoveryText
from edgeprune.compress.recover.distill import ADAPTER_RATES, MEASUREMENTS, RATES, TEXT_SHARE, step_loss
from edgeprune.compress.recover.lora import adapters
from edgeprune.compress.recover.optimizer import Optimizer
from edgeprune.compress.recover.precision import Precision, moved, products_in, training_device
from edgeprune.compress.recover.recovery import open_streams
from edgeprune.compress.recover.trained import Named, kinds, own_parameters, training
from edgeprune.compress.recover.vocabulary import Teacher
from edgeprune.errors import UsageError
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.recovery import Recovery, RecoveryMode

__all__ = ["BLOCK_SHARE", "Speed", "StepTime", "fitting_steps", "plan_recovery", "step_seconds"]

BLOCK_SHARE = 0.05
"""Of the time that `auto` gives to the blocks alone: where ranks were fitted in closed form, more of it brings nothing
that training all of them does not (lab model at 0.35, 240 steps: 2.985 nats with 20 steps of each, 2.987 without)."""
USED_SHARE = 0.95
"""Of the minutes that is planned for; the rest is for loading and for keeping checkpoints."""
CLEARLY_FASTER = 0.9
"""bfloat16 is taken where a step takes no more than this share of the float32 step."""
_TIMED_STEPS = 2


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Seconds on this machine."""

    step_s: float
    """One end-to-end step, the dense model's states of its windows at hand."""
    teacher_s: float = 0.0
    """The dense model's pass over the windows of a step."""
    teacher_steps: float = 0.0
    """Steps that need such a pass: until every window was read, or all of them where states are not kept."""
    block_step_s: float
    """One step of every block, one after the other, and its share of moving the hidden states along."""
    measure_s: float
    """Measuring the selection text once."""
    precision: Precision


class StepTime(NamedTuple):
    """Seconds of one end-to-end step."""

    step_s: float
    """With the dense model's states at hand."""
    teacher_s: float
    """Of the dense model's pass over its windows."""


def plan_recovery(
    student: LoadedModel,
    dense: LoadedModel,
    text: RecoveryText,
    *,
    minutes: float,
    mode: RecoveryMode,
    seed: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Recovery:
    """The recovery that takes about `minutes` here; both models compute afterwards as before.

    Args:
        student: the compressed model; gets tensors of its own.
        dense: the model it was made from.
        text: windows in the student's ids.
        minutes: of training, measurements of the loss included.
        mode: what is trained.
        seed: of the order of the windows.
        clock: seconds that pass.

    Raises:
        UsageError: not even a step fits.
    """
    own_parameters(student.model)
    with moved(training_device(), student, dense):
        speed = _measure(student, dense, text, mode, seed=seed, clock=clock)
    return fitting_steps(speed, minutes=minutes, mode=mode)


def fitting_steps(speed: Speed, *, minutes: float, mode: RecoveryMode) -> Recovery:
    """The most steps that fit.

    Raises:
        UsageError: none does; the message says how many minutes a recovery takes at least.
    """
    measuring = _measuring_s(speed, mode)
    left = 60.0 * minutes * USED_SHARE - measuring
    blocks = {"auto": BLOCK_SHARE, "blockwise": 1.0}.get(mode, 0.0) * max(0.0, left)
    block_steps = int(blocks / speed.block_step_s) if blocks else 0
    left -= block_steps * speed.block_step_s
    first_s = speed.step_s + _reading_s(speed)
    reading = min(left / first_s, speed.teacher_steps)
    steps = 0 if mode == "blockwise" else max(0, int(reading + (left - reading * first_s) / speed.step_s))
    if (block_steps if mode == "blockwise" else steps) == 0:
        step_s = speed.block_step_s if mode == "blockwise" else first_s
        needed = (measuring + step_s) / (60.0 * USED_SHARE)
        raise UsageError(
            f"--recover-minutes {minutes:g} is too short for one step on this machine; give at least "
            f"{max(0.1, -(-needed // 0.1) * 0.1):.1f}."
        )
    return Recovery(mode=mode, steps=steps, block_steps=block_steps, precision=speed.precision)


def _measuring_s(speed: Speed, mode: RecoveryMode) -> float:
    return 0.0 if mode == "blockwise" else (MEASUREMENTS + 1) * speed.measure_s


def _reading_s(speed: Speed) -> float:
    return speed.teacher_s if speed.teacher_steps else 0.0


def _measure(
    student: LoadedModel,
    dense: LoadedModel,
    text: RecoveryText,
    mode: RecoveryMode,
    *,
    seed: int,
    clock: Callable[[], float],
) -> Speed:
    started = clock()
    measure_loss(student, text.selection)
    measure_s = clock() - started
    timed: dict[Precision, StepTime] = {}
    precisions: tuple[Precision, ...] = ("float32", "bfloat16")
    for precision in precisions:
        trial = Recovery(mode="distill", steps=_TIMED_STEPS, precision=precision)
        teacher = Teacher(dense, student)
        if mode == "lora":
            with adapters(student, seed=seed) as parameters:
                optimizer = Optimizer(parameters, dict.fromkeys(parameters, "matrix"), ADAPTER_RATES, matrices="adam")
                timed[precision] = step_seconds(
                    student, teacher, text, trial, parameters, optimizer, seed=seed, clock=clock
                )
        else:
            parameters = dict(student.model.named_parameters())
            optimizer = Optimizer(parameters, kinds(student), RATES)
            timed[precision] = step_seconds(
                student, teacher, text, trial, parameters, optimizer, seed=seed, clock=clock
            )
    is_faster = timed["bfloat16"].step_s < CLEARLY_FASTER * timed["float32"].step_s
    chosen: Precision = "bfloat16" if is_faster else "float32"
    teacher = Teacher(dense, student)
    block_step_s = 0.0
    if mode in ("auto", "blockwise"):
        block_step_s = _block_step_s(student, teacher, text, chosen, seed=seed, clock=clock)
    window_count, window = len(text.domain) + len(text.general), text.domain.shape[1]
    return Speed(
        step_s=timed[chosen].step_s,
        teacher_s=timed[chosen].teacher_s,
        teacher_steps=text.fresh_steps if teacher.keeps(window_count, window) else math.inf,
        block_step_s=block_step_s,
        measure_s=measure_s,
        precision=chosen,
    )


def step_seconds(
    student: LoadedModel,
    teacher: Teacher | None,
    text: RecoveryText,
    trial: Recovery,
    parameters: Named,
    optimizer: Optimizer,
    *,
    seed: int,
    clock: Callable[[], float] = time.perf_counter,
) -> StepTime:
    """Time one end-to-end step, the fastest of a few after one that warms up; no weight moves.

    Args:
        student: the model, with tensors of its own.
        teacher: as the training will have it, fresh.
        text: windows in the student's ids.
        trial: its precision counts.
        parameters: what will be trained.
        optimizer: of these; not to be used afterwards.
        seed: of the order of the windows.
        clock: seconds that pass.
    """
    found, read = [], []
    for step in range(1 + _TIMED_STEPS):
        batch = text.batch(step, seed=seed).to(student.adapter.embedding(student.model).weight.device)
        started = clock()
        if teacher is not None:
            with products_in(trial.precision, batch.device):
                teacher.hidden(batch)
        read.append(clock() - started)
        started = clock()
        with training(parameters):
            step_loss(student, batch, teacher, trial, TEXT_SHARE).backward()
            optimizer.step(0.0)
        found.append(clock() - started)
    return StepTime(step_s=min(found[1:]), teacher_s=min(read[1:]))


def _block_step_s(
    student: LoadedModel,
    teacher: Teacher,
    text: RecoveryText,
    precision: Precision,
    *,
    seed: int,
    clock: Callable[[], float],
) -> float:
    """Seconds of one step of every block, by the time of a few steps of the first; its weights are put back."""
    trial = Recovery(mode="blockwise", block_steps=_TIMED_STEPS, precision=precision)
    streams = open_streams(student, teacher, text, trial, seed=seed)
    parameters = streams.parameters(0)
    before = {name: value.detach().clone() for name, value in parameters.items()}
    optimizer = Optimizer(parameters, dict.fromkeys(parameters, "matrix"), BLOCK_RATES, matrices="adam")
    started = clock()
    streams.aim(0)
    train_block(streams, 0, optimizer, trial, seed=seed)
    streams.advance(0)
    passed = clock() - started
    for name, value in parameters.items():
        value.data.copy_(before[name])
    return len(streams) * passed / _TIMED_STEPS
