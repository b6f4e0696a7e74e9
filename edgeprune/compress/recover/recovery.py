"""`recover`: a compressed model, the dense one and the text in; the same model with better weights out."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from edgeprune.compress.recover.blockwise import STREAM_BYTES, Streams, train_blocks
from edgeprune.compress.recover.checkpoint import CheckpointFile
from edgeprune.compress.recover.data import RecoveryText, batch_windows
from edgeprune.compress.recover.distill import ADAPTER_RATES, RATES, Outcome, Told, train
from edgeprune.compress.recover.lora import adapters
from edgeprune.compress.recover.optimizer import Optimizer
from edgeprune.compress.recover.precision import moved, training_device
from edgeprune.compress.recover.trained import Kind, Named, kinds, own_parameters
from edgeprune.compress.recover.vocabulary import Teacher
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.events import Event, Progress
from edgeprune.schema.recovery import Recovery

__all__ = ["Recovered", "open_streams", "recover"]


@dataclass(frozen=True, kw_only=True)
class Recovered:
    """What a recovery did."""

    blocks: tuple[tuple[float, float], ...]
    """Relative error of each block before and after it was trained alone, of those trained this time."""
    outcome: Outcome | None
    """Of the end-to-end training; None where there was none."""


def recover(
    student: LoadedModel,
    dense: LoadedModel,
    text: RecoveryText,
    recovery: Recovery,
    *,
    seed: int,
    progress: Progress,
    checkpoint: Path | None = None,
) -> Recovered:
    """Train a compressed model in place; the dense one is not changed.

    Args:
        student: the compressed model, before its weights are rounded; gets tensors of its own.
        dense: the model it was made from.
        text: windows in the student's ids.
        recovery: what is trained, and for how long.
        seed: equal seeds, models, texts, machines and thread counts give equal weights.
        progress: told the loss and the time left at every measurement; may cancel.
        checkpoint: file the training is kept in until it is finished, so that the same call goes on after a kill; None
            keeps nothing.

    Raises:
        UsageError: adapters are asked for, and peft is not installed.
        DeviceError: the checkpoint cannot be written.
    """
    own_parameters(student.model)
    device = training_device()
    file = CheckpointFile(checkpoint, student.spec, dense.spec, recovery, seed, text.domain.tolist(), text.selection)
    blocks: list[tuple[float, float]] = []
    outcome: Outcome | None = None
    with moved(device, student, dense):
        teacher = Teacher(dense, student)
        kept = file.read()
        if recovery.block_steps and (kept is None or kept.phase != "distill"):
            streams = open_streams(student, teacher, text, recovery, seed=seed)
            started = time.perf_counter()

            def told(position: int, before: float, after: float) -> None:
                blocks.append((before, after))
                left = (time.perf_counter() - started) / len(blocks) * (len(streams) - position - 1)
                progress.emit(_block_event(position, len(streams), before, after, left))
                progress.raise_if_cancelled()

            train_blocks(student, streams, recovery, seed=seed, file=file, tell=told)
            del streams
        if recovery.steps:
            is_lora = recovery.mode == "lora"
            with adapters(student, seed=seed) if is_lora else nullcontext(_all(student)) as parameters:
                known: dict[str, Kind] = dict.fromkeys(parameters, "matrix") if is_lora else kinds(student)
                rates = ADAPTER_RATES if is_lora else RATES
                optimizer = Optimizer(parameters, known, rates, matrices="adam" if is_lora else "muon")
                outcome = train(
                    student, parameters, optimizer, text, recovery,
                    teacher=teacher, seed=seed, file=file, tell=_teller(progress, recovery),
                )  # fmt: skip
    if outcome is not None:
        progress.emit(Event(kind="noted", stage="compress", message=_summary(outcome, recovery)))
    return Recovered(blocks=tuple(blocks), outcome=outcome)


def open_streams(
    student: LoadedModel, teacher: Teacher, text: RecoveryText, recovery: Recovery, *, seed: int
) -> Streams:
    """Hidden states before the first block, of as many windows as are of use and as memory is set apart for."""
    window = text.domain.shape[1]
    size = batch_windows(window)
    fitting = STREAM_BYTES // (2 * 4 * window * student.spec.hidden_size)
    windows = text.fixed(min(fitting, size * (recovery.block_steps + 1)), seed=seed)
    whole = len(windows) // size * size or len(windows)
    device = student.adapter.embedding(student.model).weight.device
    return Streams(student, teacher.dense, windows[:whole].to(device), teacher.tokens)


def _all(student: LoadedModel) -> Named:
    return dict(student.model.named_parameters())


def _summary(outcome: Outcome, recovery: Recovery) -> str:
    if outcome.best_step == 0:
        return "recovery: nothing was better on selection text than what the training began with, so that was kept"
    early = "" if outcome.last_step == recovery.steps else f", stopped at {outcome.last_step}"
    return (
        f"recovery: loss {outcome.first_loss:.4f} -> {outcome.best_loss:.4f} nats a token on selection text, best at "
        f"step {outcome.best_step} of {recovery.steps}{early}"
    )


def _block_event(position: int, total: int, before: float, after: float, left_s: float) -> Event:
    return Event(
        kind="stage_advanced",
        stage="compress",
        message=f"recovery: block {position + 1} of {total}, relative error {before:.4f} -> {after:.4f}",
        remaining_s=left_s,
    )


def _teller(progress: Progress, recovery: Recovery) -> Callable[[Told], None]:
    last = [time.perf_counter()]

    def tell(told: Told) -> None:
        now = time.perf_counter()
        per_step = (now - last[0]) / told.taken
        last[0] = now
        progress.emit(
            Event(
                kind="stage_advanced",
                stage="compress",
                message=f"recovery: step {told.step} of {recovery.steps}, loss {told.loss:.4f} on selection text "
                f"(was {told.first_loss:.4f}, best {told.best_loss:.4f})",
                remaining_s=per_step * (recovery.steps - told.step),
            )
        )
        progress.raise_if_cancelled()

    return tell
