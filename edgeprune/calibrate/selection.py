"""Losses on selection text: of the dense model, and of a model edited in memory for the moment.

Selection text is never calibrated on. Every measured increase is a difference on the same windows, in nats per token of
the dense tokenizer. The edits of this file are undone when their block ends, whatever happens; they exist to price a
technique, never to build a result.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeprune.calibrate.loss import cut_windows, measure_loss
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.events import Progress
from edgeprune.schema.scores import TextLoss

__all__ = ["Selection", "dense_loss", "exchanged_sites", "loss_increase", "prepare_selection"]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Windows of selection text and the dense model's loss on them."""

    documents: tuple[str, ...]
    windows: tuple[tuple[int, ...], ...]
    window_tokens: int
    nats: float
    """Dense loss, summed over the scored tokens."""
    scored_tokens: int
    scored_bytes: int
    """UTF-8 bytes of the scored tokens."""

    @property
    def loss(self) -> float:
        """Nats per token."""
        return self.nats / self.scored_tokens


def prepare_selection(
    loaded: LoadedModel,
    documents: Sequence[str],
    encoded: Sequence[Sequence[int]],
    *,
    byte_lengths: NDArray[np.int64],
    window_tokens: int,
    limit_tokens: int,
    progress: Progress,
) -> Selection:
    """The first documents up to about `limit_tokens` tokens, with the dense model's loss measured on them."""
    count = 0
    tokens = 0
    while count < len(documents) and tokens < limit_tokens:
        tokens += len(encoded[count])
        count += 1
    windows = cut_windows(encoded[:count], window_tokens)
    nats, scored = measure_loss(loaded, windows, progress=progress)
    return Selection(
        documents=tuple(documents[:count]),
        windows=tuple(map(tuple, windows)),
        window_tokens=window_tokens,
        nats=nats,
        scored_tokens=scored,
        scored_bytes=sum(int(byte_lengths[window[1:]].sum()) for window in windows),
    )


def dense_loss(name: str, selection: Selection) -> TextLoss:
    """The dense model's loss as a record."""
    return TextLoss(
        text=f"{name}.selection",
        loss_nats=selection.loss,
        bits_per_byte=selection.nats / math.log(2) / selection.scored_bytes,
        token_count=selection.scored_tokens,
    )


def loss_increase(loaded: LoadedModel, selection: Selection, *, progress: Progress) -> float:
    """Nats per token that the model, as edited now, loses more than the dense one on the same windows."""
    nats, scored = measure_loss(loaded, selection.windows, progress=progress)
    return nats / scored - selection.loss


@contextmanager
def exchanged_sites(loaded: LoadedModel, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Sites compute with other weights [out, in] float32 while the block runs."""
    with torch.no_grad():
        parameters = {name: _weight_of(loaded, name) for name in weights}
        originals = {name: parameter.data for name, parameter in parameters.items()}
        try:
            for name, parameter in parameters.items():
                parameter.data = weights[name].to(torch.float32)
            yield
        finally:
            for name, parameter in parameters.items():
                parameter.data = originals[name]


def _weight_of(loaded: LoadedModel, site: str) -> nn.Parameter:
    _, index, role = site.split(".")
    position = loaded.block_indices.index(int(index))
    module = loaded.adapter.site(loaded.adapter.blocks(loaded.model)[position], role)  # type: ignore[arg-type]
    assert isinstance(module.weight, nn.Parameter)
    return module.weight
