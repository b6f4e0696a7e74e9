"""What the steps of a recovery take on this machine: measured on the very models, in every precision it can."""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import fmean
from typing import NamedTuple

import torch

from edgeprune.calibrate.loss import measure_loss
from edgeprune.compress.recover.adapt import ADAPT_TEXT_SHARE
from edgeprune.compress.recover.blockwise import BLOCK_RATES, train_block
from edgeprune.compress.recover.data import RecoveryText
from edgeprune.compress.recover.distill import ADAPTER_RATES, RATES, TEXT_SHARE, step_loss
from edgeprune.compress.recover.lora import adapters
from edgeprune.compress.recover.optimizer import Optimizer
from edgeprune.compress.recover.precision import Precision, products_in
from edgeprune.compress.recover.recovery import open_streams
from edgeprune.compress.recover.trained import Named, kinds, own_parameters, training
from edgeprune.compress.recover.vocabulary import Teacher
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.recovery import Recovery, RecoveryMode

__all__ = ["Speed", "StepTime", "measure_speed", "step_seconds"]

CLEARLY_FASTER = 0.9
"""bfloat16 is taken where a step takes no more than this share of the float32 step."""
_TIMED_STEPS = 4


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
    adapt_step_s: float = 0.0
    """One step of the dense model, its own states from before included."""
    adapt_measure_s: float = 0.0
    """Measuring the selection text with it."""
    fresh_steps: int = 0
    """Steps until every window was read."""
    precision: Precision


class StepTime(NamedTuple):
    """Seconds of one end-to-end step."""

    step_s: float
    """With the dense model's states at hand."""
    teacher_s: float
    """Of the dense model's pass over its windows."""


def measure_speed(
    student: LoadedModel,
    dense: LoadedModel,
    text: RecoveryText,
    mode: RecoveryMode,
    *,
    seed: int,
    clock: Callable[[], float],
) -> Speed:
    """Time everything a recovery of a mode does; both models compute afterwards as before.

    Args:
        student: the compressed model, with tensors of its own.
        dense: the model it was made from.
        text: windows in the student's ids.
        mode: what will be trained.
        seed: of the order of the windows.
        clock: seconds that pass.
    """
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
    block_step_s = adapt_step_s = adapt_measure_s = 0.0
    if mode == "auto":
        adapt_step_s, adapt_measure_s = _adapt_seconds(dense, teacher, text, chosen, seed=seed, clock=clock)
    if mode in ("auto", "blockwise"):
        block_step_s = _block_step_s(student, teacher, text, chosen, seed=seed, clock=clock)
    window_count, window = len(text.domain) + len(text.general), text.domain.shape[1]
    return Speed(
        step_s=timed[chosen].step_s,
        teacher_s=timed[chosen].teacher_s,
        teacher_steps=text.fresh_steps if teacher.keeps(window_count, window) else math.inf,
        block_step_s=block_step_s,
        measure_s=measure_s,
        adapt_step_s=adapt_step_s,
        adapt_measure_s=adapt_measure_s,
        fresh_steps=text.fresh_steps,
        precision=chosen,
    )


def _adapt_seconds(
    dense: LoadedModel,
    teacher: Teacher,
    text: RecoveryText,
    precision: Precision,
    *,
    seed: int,
    clock: Callable[[], float],
) -> tuple[float, float]:
    """Seconds of a step of the dense model and of measuring it; a copy of it is trained, on the text in its own ids."""
    own = replace(
        text,
        domain=teacher.tokens(text.domain.long()),
        general=teacher.tokens(text.general.long()),
        selection=tuple(tuple(teacher.tokens(torch.tensor(window)).tolist()) for window in text.selection),
    )
    trained = replace(dense, model=copy.deepcopy(dense.model))
    own_parameters(trained.model)
    parameters = dict(trained.model.named_parameters())
    optimizer = Optimizer(parameters, kinds(trained), RATES)
    trial = Recovery(mode="distill", steps=_TIMED_STEPS, precision=precision)
    found = step_seconds(
        trained, Teacher(dense, trained), own, trial, parameters, optimizer, seed=seed, clock=clock,
        text_share=ADAPT_TEXT_SHARE,
    )  # fmt: skip
    started = clock()
    measure_loss(trained, own.selection)
    return found.step_s + found.teacher_s, clock() - started


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
    text_share: float = TEXT_SHARE,
) -> StepTime:
    """Time one end-to-end step, the mean of a few after one that warms up; no weight moves.

    The fastest of them promises more steps than fit: over many the machine is never so quiet.

    Args:
        student: the model, with tensors of its own.
        teacher: as the training will have it, fresh.
        text: windows in the student's ids.
        trial: its precision counts.
        parameters: what will be trained.
        optimizer: of these; not to be used afterwards.
        seed: of the order of the windows.
        clock: seconds that pass.
        text_share: as the training will have it.
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
            step_loss(student, batch, teacher, trial, text_share).backward()
            optimizer.step(0.0)
        found.append(clock() - started)
    return StepTime(step_s=fmean(found[1:]), teacher_s=fmean(read[1:]))


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
