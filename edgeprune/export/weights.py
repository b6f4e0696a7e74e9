"""Writing the graph and its weights: `model.onnx` and `model.onnx.data`, the same bytes for the same input.

Weights stream through: one matrix is packed, written and dropped before the next is touched. Several initializers may
read the same bytes (a tied table); each then names the same place in the data file.
"""

from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.errors import ExportError
from edgeprune.export.graph import Graph
from edgeprune.export.matrices import to_half

__all__ = ["ALIGNMENT", "DATA_FILE", "GRAPH_FILE", "INLINE_BELOW_BYTES", "write_model"]

GRAPH_FILE = "model.onnx"
DATA_FILE = "model.onnx.data"

ALIGNMENT = 64
"""Every tensor starts at a multiple of this in the data file: a cache line, and what the widest vector loads want."""

INLINE_BELOW_BYTES = 1024
"""Smaller tensors stay inside the graph file: naming their place in the data file would cost as much as they do."""


def write_model(graph: Graph, folder: Path) -> None:
    """Write the graph and its weights into an existing folder.

    Raises:
        ExportError: a weight does not have the size the graph declares or is too large for float16, or an initializer
            got none.
    """
    with (folder / DATA_FILE).open("wb") as stream:
        data = _DataFile(stream, folder)
        for array, values in graph.arrays():
            _store(array, values, data)
        for value in graph.model.graph.initializers.values():
            if value.const_value is None:
                raise ExportError(f"The weight {value.name!r} of the graph got no value; report this model.")
            if not isinstance(value.const_value, ir.ExternalTensor):
                # What mobius computed itself: rotary tables, and constants that are small enough to stay.
                _store(value.const_value.numpy(), (value,), data)
    proto = ir.to_proto(graph.model)
    # They repeat the shapes that every tensor states itself.
    del proto.graph.value_info[:]
    (folder / GRAPH_FILE).write_bytes(proto.SerializeToString(deterministic=True))


class _DataFile:
    """The data file, growing tensor by tensor."""

    def __init__(self, stream: BinaryIO, folder: Path) -> None:
        self.folder = folder
        self._stream = stream

    def append(self, array: NDArray[Any]) -> int:
        """Write an array at the next aligned place; gives its offset."""
        self._stream.write(bytes(-self._stream.tell() % ALIGNMENT))
        offset = self._stream.tell()
        self._stream.write(np.ascontiguousarray(array).data)
        return offset


def _store(array: NDArray[Any], values: tuple[ir.Value, ...], data: _DataFile) -> None:
    """Put an array where its size says, and point every initializer that reads it there."""
    if array.dtype == np.float32 and all(value.dtype == ir.DataType.FLOAT16 for value in values):
        array = to_half(array, f"the weight {values[0].name}")
    for value in values:
        assert value.shape is not None
        assert value.dtype is not None
        expected = prod(value.shape.numpy()) * value.dtype.itemsize
        if expected != array.nbytes:
            raise ExportError(f"The weight {value.name!r} has {array.nbytes} bytes, the graph declares {expected}.")
    is_inline = array.nbytes < INLINE_BELOW_BYTES
    offset = None if is_inline else data.append(array)
    for value in values:
        assert value.shape is not None
        assert value.dtype is not None
        if offset is None:
            shaped = np.ascontiguousarray(array).reshape(value.shape.numpy())
            value.const_value = ir.tensor(shaped, name=value.name)
        else:
            value.const_value = ir.ExternalTensor(
                DATA_FILE,
                offset,
                array.nbytes,
                value.dtype,
                shape=value.shape,
                name=value.name or "",
                base_dir=data.folder,
            )
