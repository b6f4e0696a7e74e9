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

from edgeprune.calibrate.kernel_scores import rounded_weight
from edgeprune.calibrate.selection import Selection, loss_increase
from edgeprune.intake.load import LoadedModel
from edgeprune.rounding import rounding_key
from edgeprune.schema.events import Progress
from edgeprune.schema.kernel import FLOAT32

__all__ = ["table_losses"]


def table_losses(
    loaded: LoadedModel, kernels: Sequence[str], selection: Selection, *, progress: Progress
) -> NDArray[np.float64]:
    """[len(kernels)] nats per token, in the order of `kernels`; gains within noise count as no loss."""
    measured = {FLOAT32: 0.0}
    for kernel in kernels:
        key = rounding_key(kernel)
        if key not in measured:
            progress.raise_if_cancelled()
            measured[key] = _measure(loaded, kernel, selection, progress)
    return np.array([measured[rounding_key(kernel)] for kernel in kernels])


def _measure(loaded: LoadedModel, kernel: str, selection: Selection, progress: Progress) -> float:
    tables = (loaded.adapter.embedding(loaded.model).weight, loaded.adapter.head(loaded.model).weight)
    rounded = {parameter: rounded_weight(parameter.detach(), kernel) for parameter in tables}
    if all(torch.equal(parameter, table) for parameter, table in rounded.items()):
        return 0.0  # bfloat16 sources often fit float16 exactly
    with _exchanged(rounded):
        return max(0.0, loss_increase(loaded, selection, progress=progress))


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
