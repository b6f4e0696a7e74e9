"""Measured loss of storing embedding and head under each kernel.

Measured, not predicted: the head's output errors weigh by the token's probability, which no scalar per site tells, and
the embedding's error enters every block.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgeprune.calibrate.matrix_rounding import round_tables
from edgeprune.calibrate.selection import Selection, loss_increase
from edgeprune.intake.load import LoadedModel
from edgeprune.rounding import rounding_key
from edgeprune.schema.events import Progress
from edgeprune.schema.kernel import FLOAT32

__all__ = ["table_losses"]


def table_losses(
    loaded: LoadedModel,
    kernels: Sequence[str],
    selections: Sequence[Selection],
    *,
    gram: Tensor | None,
    progress: Progress,
) -> list[NDArray[np.float64]]:
    """For each text [len(kernels)] nats per token, in the order of `kernels`; gains within noise count as no loss.

    Args:
        loaded: the model; as it was when this returns.
        kernels: those to score.
        selections: texts to measure on; the tables are rounded once.
        gram: [hidden, hidden] float64, second moment of the head's inputs; None rounds to nearest.
        progress: asked whether to stop.
    """
    measured = {FLOAT32: [0.0] * len(selections)}
    for kernel in kernels:
        key = rounding_key(kernel)
        if key not in measured:
            progress.raise_if_cancelled()
            measured[key] = _measure(loaded, kernel, selections, gram, progress)
    return [np.array([measured[rounding_key(kernel)][at] for kernel in kernels]) for at in range(len(selections))]


def _measure(
    loaded: LoadedModel, kernel: str, selections: Sequence[Selection], gram: Tensor | None, progress: Progress
) -> list[float]:
    embedding = loaded.adapter.embedding(loaded.model).weight
    head = None if loaded.spec.is_tied else loaded.adapter.head(loaded.model).weight
    stored, stored_head = round_tables(embedding.detach(), None if head is None else head.detach(), kernel, gram)
    rounded = {embedding: stored}
    if head is not None and stored_head is not None:
        rounded[head] = stored_head
    if all(torch.equal(parameter, table) for parameter, table in rounded.items()):
        return [0.0] * len(selections)  # bfloat16 sources often fit float16 exactly
    with _exchanged(rounded):
        return [max(0.0, loss_increase(loaded, selection, progress=progress)) for selection in selections]


@contextmanager
def _exchanged(tables: dict[Tensor, Tensor]) -> Iterator[None]:
    originals = {parameter: parameter.data for parameter in tables}
    try:
        for parameter, table in tables.items():
            parameter.data = table
        yield
    finally:
        for parameter, table in originals.items():
            parameter.data = table
