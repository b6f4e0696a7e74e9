"""Bytes that a graph reads for one decoded token: its weights without the embedding and position tables, and its cache.

Of the tables a token reads one row. A tied table counts once, with the head.
"""

from pathlib import Path

import onnx

__all__ = ["bytes_per_token"]

_ROWS = ("embedding.", "model.rotary_emb.")


def bytes_per_token(folder: Path, *, past_tokens: int) -> int:
    """Of a graph of ours with float32 keys and values."""
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    weights = sum(
        _size(tensor) for tensor in model.graph.initializer if not tensor.name.startswith(_ROWS) and tensor.dims
    )
    cache = 0
    for entry in model.graph.input:
        if entry.name.startswith("past_key_values."):
            _, heads, _, width = entry.type.tensor_type.shape.dim
            cache += 4 * heads.dim_value * width.dim_value * past_tokens
    return weights + cache


def _size(tensor: onnx.TensorProto) -> int:
    size = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    for length in tensor.dims:
        size *= length
    return int(size)
