"""Windows that the dense model writes itself: more text of the domain's kind than there is.

A small text is soon learned by heart, and what a student should learn is what the dense model would say, of which there
is no end (Kim and Rush 2016, "Sequence-level knowledge distillation"; Agarwal et al. 2024, "On-policy distillation of
language models", on teacher-written text). Each window begins as a piece of the domain's text does and goes on with
tokens drawn from the dense model's predictions among the student's tokens, at temperature 1.
"""

import torch
from torch import Tensor

from edgeprune.calibrate.generate import draw_tokens
from edgeprune.calibrate.loss import fused_attention
from edgeprune.compress.recover.checkpoint import CheckpointFile
from edgeprune.compress.recover.vocabulary import Teacher
from edgeprune.schema.events import Event, Progress

__all__ = ["prompt_tokens", "windows_at_once", "write_windows"]

PROMPT_SHARE = 1 / 8
"""Of a window that is the domain's own text."""
CACHE_BYTES = 256 << 20
"""Of the keys and values of windows written together."""
MOST_AT_ONCE = 64
_KEPT = "written/windows"


def prompt_tokens(window_tokens: int) -> int:
    """Tokens of a window that are the domain's own."""
    return max(1, int(PROMPT_SHARE * window_tokens))


def windows_at_once(teacher: Teacher, window_tokens: int) -> int:
    """Windows that are written together."""
    heads = sum(block.num_kv_heads * block.head_dim for block in teacher.dense.spec.blocks)
    return max(1, min(MOST_AT_ONCE, CACHE_BYTES // (2 * 4 * window_tokens * heads)))


def write_windows(
    teacher: Teacher,
    domain: Tensor,
    count: int,
    *,
    seed: int,
    progress: Progress,
    length: int | None = None,
    file: CheckpointFile | None = None,
) -> Tensor:
    """Windows [count, seq] int32 in the student's ids.

    Args:
        teacher: the dense model.
        domain: [n, seq] windows whose pieces they begin with.
        count: of windows to write.
        seed: equal seeds, models, texts, machines and thread counts give equal windows.
        progress: told how far it is; may cancel.
        length: tokens of a window; None is as many as the domain's have.
        file: where what is written is kept, so that a training that goes on after a kill need not write it again.
    """
    window = domain.shape[1]
    prompt = prompt_tokens(window)
    file = file or CheckpointFile(None)
    kept = file.read()
    written = [kept.tensors[_KEPT]] if kept is not None and _KEPT in kept.tensors else []
    step = windows_at_once(teacher, window)
    for start in range(sum(map(len, written)), count, step):
        size = min(step, count - start)
        generator = torch.Generator().manual_seed(seed * 1_000_003 + start)
        rows = torch.randint(len(domain), (size, 1), generator=generator)
        places = torch.randint(window - prompt + 1, (size, 1), generator=generator) + torch.arange(prompt)
        prompts = domain[rows, places].long()
        with fused_attention(teacher.dense):
            drawn = draw_tokens(
                teacher.dense,
                teacher.tokens(prompts),
                (length or window) - prompt,
                generator=generator,
                allowed=teacher.ids,
                progress=progress,
            )
        written.append(torch.cat([prompts, drawn], dim=1).int())
        file.along = {_KEPT: torch.cat(written)}
        file.write("written", start + size, {}, {})
        message = f"recovery: the dense model wrote {start + size} of {count} windows"
        progress.emit(Event(kind="stage_advanced", stage="compress", message=message))
    found = torch.cat(written)
    file.along = {_KEPT: found}
    return found
