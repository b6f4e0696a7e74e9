"""Measured loss of storing embedding and head under each kernel.

Measured, not predicted: the head's output errors weigh by the token's probability, which no scalar per site tells, and
the embedding's error enters every block.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

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
            with _rounded_tables(loaded, kernel):
                measured[key] = max(0.0, loss_increase(loaded, selection, progress=progress))
    return np.array([measured[rounding_key(kernel)] for kernel in kernels])


@contextmanager
def _rounded_tables(loaded: LoadedModel, kernel: str) -> Iterator[None]:
    embedding, head = loaded.adapter.embedding(loaded.model), loaded.adapter.head(loaded.model)
    tables = {parameter: parameter.data for parameter in {embedding.weight, head.weight}}
    try:
        for parameter, table in tables.items():
            parameter.data = rounded_weight(table, kernel)
        yield
    finally:
        for parameter, table in tables.items():
            parameter.data = table
