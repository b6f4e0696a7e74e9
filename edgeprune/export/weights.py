"""Writing the graph and its weights: `model.onnx` and `model.onnx.data`, the same bytes for the same input.

Weights stream through: one matrix is packed, written and dropped before the next is touched. Several initializers may
read the same bytes (a tied table); each then names the same place in the data file.
"""

from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgeprune.errors import ExportError
from edgeprune.export.graph import Graph

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
        ExportError: a weight does not have the size the graph declares, or an initializer got none.
    """
    offset = 0
    with (folder / DATA_FILE).open("wb") as stream:
        for array, values in graph.arrays():
            size = array.nbytes
            for value in values:
                _check(value, size)
            if size < INLINE_BELOW_BYTES:
                for value in values:
                    value.const_value = _inline(array, value)
                continue
            padding = -offset % ALIGNMENT
            stream.write(bytes(padding))
            offset += padding
            stream.write(np.ascontiguousarray(array).data)
            for value in values:
                value.const_value = _external(value, folder, offset, size)
            offset += size
        for name, value in graph.model.graph.initializers.items():
            if value.const_value is None:
                raise ExportError(f"The graph's initializer {name!r} got no weight; this is a mistake in EdgePrune.")
            if isinstance(value.const_value, ir.ExternalTensor) or value.const_value.nbytes < INLINE_BELOW_BYTES:
                continue
            # Tables that mobius computed itself: the rotary cosines and sines.
            padding = -offset % ALIGNMENT
            stream.write(bytes(padding))
            offset += padding
            data = value.const_value.tobytes()
            stream.write(data)
            value.const_value = _external(value, folder, offset, len(data))
            offset += len(data)
    proto = ir.to_proto(graph.model)
    (folder / GRAPH_FILE).write_bytes(proto.SerializeToString(deterministic=True))


def _check(value: ir.Value, size: int) -> None:
    assert value.shape is not None
    assert value.dtype is not None
    expected = int(np.prod(value.shape.numpy())) * value.dtype.itemsize
    if expected != size:
        raise ExportError(f"The weight {value.name!r} has {size} bytes, the graph declares {expected}.")


def _inline(array: np.ndarray, value: ir.Value) -> ir.TensorProtocol:
    assert value.shape is not None
    return ir.tensor(np.ascontiguousarray(array).reshape(value.shape.numpy()), name=value.name)


def _external(value: ir.Value, folder: Path, offset: int, size: int) -> ir.ExternalTensor:
    assert value.shape is not None
    assert value.dtype is not None
    return ir.ExternalTensor(
        DATA_FILE, offset, size, value.dtype, shape=value.shape, name=value.name or "", base_dir=folder
    )
