"""The dense model learns the domain before it is cut, and what is made of it learns from that one.

Sreenivas et al. 2024 ("LLM pruning and distillation in practice: the Minitron approach", section 3, teacher
correction): a dense model that does not know the text is no good teacher on it. Here the corrected model is the one
that is cut as well, so what it learned need not pass through the few windows of a calibration a second time. It learns
the text and, in equal parts, its own predictions from before, which keeps it from learning the text by heart.

What has learned the text knows the windows it learned better than any others, and a model that learns from it on these
windows learns that too. Weights between those before and after are as good on other text and know less of this one:

    w = (1 - b) w_before + b w_after                                                                 (1)

(Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", eq. (1)). So the cuts are made in w_after, and the
distillation learns from w.

With the lab model, judged on subjects that were left out of all training (bits a byte): 0.7353 dense; text alone, 60
steps, 0.7296; in equal parts, 0.7284, and 0.7259 after 120. That cut to 0.6 and distilled 160 steps: 0.7369 from
w_after, 0.7345 from w. Without any of this, 0.7368 after 240 steps.
"""

import copy
import time
from dataclasses import replace
from pathlib import Path

import torch

from edgeprune.compress.recover.checkpoint import CheckpointFile
from edgeprune.compress.recover.data import RecoveryText
from edgeprune.compress.recover.distill import RATES, Told, train
from edgeprune.compress.recover.optimizer import Optimizer
from edgeprune.compress.recover.precision import moved, training_device
from edgeprune.compress.recover.trained import kinds, own_parameters
from edgeprune.compress.recover.vocabulary import Teacher
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.events import Event, Progress
from edgeprune.schema.recovery import Recovery

__all__ = ["ADAPT_MEASUREMENTS", "ADAPT_TEXT_SHARE", "adapt", "between"]

ADAPT_TEXT_SHARE = 0.5
"""What the text counts for, a of `loss` eq. (1)."""
ADAPT_WARMUP_SHARE = 0.4
"""Of the steps, over which rates rise; there are few."""
ADAPT_MEASUREMENTS = 4
TEACHER_SHARE = 0.5
"""b of eq. (1). 0.25, 0.5, 0.75, 1 and 1.25 are at 0.7306, 0.7274, 0.7258, 0.7259 and 0.7278 bits a byte themselves."""


def adapt(
    dense: LoadedModel,
    text: RecoveryText,
    recovery: Recovery,
    *,
    seed: int,
    progress: Progress,
    checkpoint: Path | None = None,
) -> LoadedModel:
    """A dense model that knows the text; the one given is not changed.

    Args:
        dense: the model as it is.
        text: windows in its ids.
        recovery: its `adapt_steps` are taken.
        seed: of the order of the windows.
        progress: told the loss and the time left at every measurement; may cancel.
        checkpoint: file the training is kept in, and what it gave once it is finished; None keeps nothing.

    Raises:
        DeviceError: the checkpoint cannot be written.
    """
    adapted = replace(dense, model=copy.deepcopy(dense.model))
    own_parameters(adapted.model)
    parameters = dict(adapted.model.named_parameters())
    file = CheckpointFile(checkpoint, "adapt", dense.spec, recovery, seed, text.domain.tolist(), text.selection)
    kept = file.read()
    if kept is not None and kept.phase == "adapted":
        for name, value in kept.part("best").items():
            parameters[name].data.copy_(value)
        return adapted
    plan = Recovery(mode="distill", steps=recovery.adapt_steps, precision=recovery.precision)
    last = [time.perf_counter()]

    def tell(told: Told) -> None:
        now = time.perf_counter()
        left = (now - last[0]) / told.taken * (plan.steps - told.step)
        last[0] = now
        message = (
            f"recovery: dense model, step {told.step} of {plan.steps}, loss {told.loss:.4f} on selection text "
            f"(was {told.first_loss:.4f})"
        )
        progress.emit(Event(kind="stage_advanced", stage="compress", message=message, remaining_s=left))
        progress.raise_if_cancelled()

    with moved(training_device(), adapted, dense):
        outcome = train(
            adapted,
            parameters,
            Optimizer(parameters, kinds(adapted), RATES),
            text,
            plan,
            teacher=Teacher(dense, adapted),
            seed=seed,
            file=file,
            tell=tell,
            text_share=ADAPT_TEXT_SHARE,
            warmup_share=ADAPT_WARMUP_SHARE,
            measurements=ADAPT_MEASUREMENTS,
        )
    file.write("adapted", plan.steps, {}, {f"best/{name}": value for name, value in parameters.items()})
    message = (
        f"recovery: before it is cut, the dense model's loss {outcome.first_loss:.4f} -> {outcome.best_loss:.4f} nats "
        f"a token on selection text, best at step {outcome.best_step} of {plan.steps}"
    )
    progress.emit(Event(kind="noted", stage="compress", message=message))
    return adapted


def between(dense: LoadedModel, adapted: LoadedModel) -> LoadedModel:
    """The model that is learned from: eq. (1), in tensors of its own."""
    teacher = replace(adapted, model=copy.deepcopy(adapted.model))
    own_parameters(teacher.model)
    before = dict(dense.model.named_parameters())
    for name, value in teacher.model.named_parameters():
        value.data = torch.lerp(before[name].detach(), value.data, TEACHER_SHARE)  # eq. (1)
    return teacher
