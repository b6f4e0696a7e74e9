"""The text a recovery trains on, and the text it is judged by; no document is in both.

Trained on: the calibration parts of the domain and of the general text, documents joined and cut into windows without
padding. Judged by: documents of the domain's selection part, each apart, those furthest from what is trained on first.
Parts are split at random, so many selection documents may have one about the same subject among those that are learned
by heart (two thirds in a corpus of medical questions), and a training that is good at these may not be so at text that
comes later. Which windows a batch holds is a function of the seed and of the step alone, so that a run that was killed
goes on where it stood.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from edgeprune.calibrate.corpus import encode, pack_windows, read_split, separator_token
from edgeprune.calibrate.loss import cut_windows
from edgeprune.calibrate.relatedness import nearest_similarity
from edgeprune.errors import CalibrationError
from edgeprune.intake.load import LoadedModel

__all__ = ["DOMAIN_FRACTION", "WINDOW_TOKENS", "RecoveryText", "batch_windows", "read_recovery_text"]

WINDOW_TOKENS = 256
"""Tokens of a window at most, as losses are measured."""
BATCH_TOKENS = 2048
"""Tokens of a step."""
DOMAIN_FRACTION = 0.75
"""Of a batch; the rest is general text, which keeps what is not the domain from being forgotten."""
SELECTION_TOKENS = 16_384
"""Tokens of selection text a training is judged by."""


@dataclass(frozen=True, kw_only=True)
class RecoveryText:
    """Windows in the ids of the model that is trained."""

    domain: Tensor
    """[n, seq] int32."""
    general: Tensor
    """[m, seq] int32; [0, seq] where there is none, and the domain then fills the batches."""
    selection: tuple[tuple[int, ...], ...]
    """Windows whose loss stops the training; none of them is trained on."""

    @property
    def fresh_steps(self) -> int:
        """Steps until every window was in a batch."""
        domain, general = self._shares()
        return max(-(-len(self.domain) // domain), -(-len(self.general) // general) if general else 0)

    def batch(self, step: int, *, seed: int) -> Tensor:
        """Windows [batch, seq] int64 of a step, the domain's first; every window once before any comes again."""
        domain, general = self._shares()
        rows = [_turn(len(self.domain), step * domain + number, seed) for number in range(domain)]
        others = [_turn(len(self.general), step * general + number, seed + 1) for number in range(general)]
        return torch.cat([self.domain[rows], self.general[others]]).long()

    def _shares(self) -> tuple[int, int]:
        """Windows of a batch that are of the domain, and of the general text."""
        size = batch_windows(self.domain.shape[1])
        general = min(size - 1, round(size * (1.0 - DOMAIN_FRACTION))) if len(self.general) else 0
        return size - general, general

    def fixed(self, count: int, *, seed: int) -> Tensor:
        """At most `count` windows [n, seq] int64 as the first batches hold them, none twice."""
        size = batch_windows(self.domain.shape[1])
        found: dict[tuple[int, ...], None] = {}
        for step in range(-(-2 * (len(self.domain) + len(self.general)) // size)):
            if len(found) >= count:
                break
            found.update(dict.fromkeys(map(tuple, self.batch(step, seed=seed).tolist())))
        return torch.tensor(list(found)[:count], dtype=torch.int64)


def batch_windows(window_tokens: int) -> int:
    """Windows of a step."""
    return max(1, BATCH_TOKENS // window_tokens)


def read_recovery_text(texts: Path, loaded: LoadedModel, *, context_tokens: int) -> RecoveryText:
    """The texts of a calibration, in the tokens of a model.

    Args:
        texts: folder a calibration left its split texts in.
        loaded: whose tokenizer and positions count; a trimmed vocabulary has a tokenizer of its own.
        context_tokens: windows are no longer.

    Raises:
        CalibrationError: the folder is damaged, or holds too little text to train on or to judge by.
    """
    window = min(context_tokens, loaded.spec.max_positions, WINDOW_TOKENS)
    separator = separator_token(loaded.spec)

    learned, others = (encode(loaded.tokenizer, read_split(texts, name, "calibrate")) for name in ("domain", "general"))
    domain, general = (
        pack_windows(documents, separator=separator, window_tokens=window) for documents in (learned, others)
    )
    if not len(domain):
        raise CalibrationError(
            f"The domain text in {texts} gives no window of {window} tokens to train on; give more text with --domain."
        )
    held: list[list[int]] = []
    tokens = 0
    for document in _furthest_first(encode(loaded.tokenizer, read_split(texts, "domain", "select")), learned, loaded):
        if tokens >= SELECTION_TOKENS:
            break
        held.append(document)
        tokens += len(document)
    selection = tuple(map(tuple, cut_windows(held, window)))
    if not selection:
        raise CalibrationError(f"{texts} holds no domain selection text to stop the training by; give more text.")
    return RecoveryText(domain=domain, general=general, selection=selection)


def _furthest_first(
    documents: Sequence[list[int]], learned: Sequence[list[int]], loaded: LoadedModel
) -> list[list[int]]:
    """Documents in the order of how far they are from all that are trained on, the furthest first."""
    similar = nearest_similarity(documents, learned, loaded.spec.vocab_size)
    return [documents[number] for number in similar.argsort(stable=True).tolist()]


def _turn(count: int, number: int, seed: int) -> int:
    """The window that comes as `number`, in rounds over all windows, each in an order of its own."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + number // count)
    return int(torch.randperm(count, generator=generator)[number % count])
