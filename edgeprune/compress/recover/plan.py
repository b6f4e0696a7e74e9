"""How many steps fit into so many minutes on this machine.

Only the plan depends on the machine's speed. What is done is the number of steps, which the recipe keeps; so a repeat
on another machine, or on this one when it is busy, does the same.
"""

import time
from collections.abc import Callable

from edgeprune.compress.recover.adapt import ADAPT_MEASUREMENTS
from edgeprune.compress.recover.data import RecoveryText
from edgeprune.compress.recover.distill import MEASUREMENTS
from edgeprune.compress.recover.precision import moved, training_device
from edgeprune.compress.recover.speed import Speed, measure_speed
from edgeprune.compress.recover.trained import own_parameters
from edgeprune.errors import UsageError
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.recovery import Recovery, RecoveryMode

__all__ = ["ADAPT_ROUNDS", "ADAPT_SHARE", "BLOCK_SHARE", "USED_SHARE", "fitting_steps", "plan_recovery"]

ADAPT_SHARE = 0.25
"""Of the time that `auto` gives to the dense model at most."""
ADAPT_ROUNDS = 1.5
"""Times the dense model reads the text where its share of the time is enough; the lab model's best was at 1.7."""
BLOCK_SHARE = 0.05
"""Of the time that `auto` gives to the blocks alone: where ranks were fitted in closed form, more of it brings nothing
that training all of them does not (lab model at 0.35, 240 steps: 2.985 nats with 20 steps of each, 2.987 without)."""
USED_SHARE = 0.95
"""Of the minutes that is planned for; the rest is for loading and for keeping checkpoints."""


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
        speed = measure_speed(student, dense, text, mode, seed=seed, clock=clock)
    return fitting_steps(speed, minutes=minutes, mode=mode)


def fitting_steps(speed: Speed, *, minutes: float, mode: RecoveryMode) -> Recovery:
    """The most steps that fit.

    Raises:
        UsageError: none does; the message says how many minutes a recovery takes at least.
    """
    measuring = _measuring_s(speed, mode)
    left = 60.0 * minutes * USED_SHARE - measuring
    adapt_steps = _adapt_steps(speed, left) if mode == "auto" else 0
    if adapt_steps:
        left -= adapt_steps * speed.adapt_step_s + _adapt_measuring_s(speed)
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
    return Recovery(mode=mode, steps=steps, block_steps=block_steps, adapt_steps=adapt_steps, precision=speed.precision)


def _adapt_steps(speed: Speed, left_s: float) -> int:
    if not speed.adapt_step_s:
        return 0
    fitting = int((ADAPT_SHARE * left_s - _adapt_measuring_s(speed)) / speed.adapt_step_s)
    return max(0, min(fitting, round(ADAPT_ROUNDS * speed.fresh_steps)))


def _adapt_measuring_s(speed: Speed) -> float:
    return (ADAPT_MEASUREMENTS + 1) * speed.adapt_measure_s


def _measuring_s(speed: Speed, mode: RecoveryMode) -> float:
    return 0.0 if mode == "blockwise" else (MEASUREMENTS + 1) * speed.measure_s


def _reading_s(speed: Speed) -> float:
    return speed.teacher_s if speed.teacher_steps else 0.0
