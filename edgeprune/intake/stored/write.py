"""Writing a safetensors file tensor by tensor: what is written is let go of before the next one is made.

The format (0.4): 8 bytes little-endian header length, JSON of names, dtypes, shapes and offsets, the data. As the
format's own writer has it, larger values stand before smaller ones (`_NAMES` from its end), then names decide, and
the header is padded with spaces to a multiple of 8, so that every value lies at a multiple of its size.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["Pending", "write_tensors"]

_NAMES = {
    torch.uint8: "U8", torch.int8: "I8", torch.float16: "F16", torch.bfloat16: "BF16", torch.int32: "I32",
    torch.float32: "F32", torch.float64: "F64", torch.int64: "I64",
}  # fmt: skip
_ORDER = list(_NAMES)


@dataclass(frozen=True)
class Pending:
    """A tensor that is made when it is written."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    make: Callable[[], Tensor]

    @property
    def size_bytes(self) -> int:
        """Of its values."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


def write_tensors(path: Path, tensors: Mapping[str, Pending], *, metadata: Mapping[str, str]) -> None:
    """Write the file.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    order = sorted(tensors, key=lambda name: (-_ORDER.index(tensors[name].dtype), name))
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name in order:
        pending = tensors[name]
        begin, end = end, end + pending.size_bytes
        header[name] = {"dtype": _NAMES[pending.dtype], "shape": list(pending.shape), "data_offsets": [begin, end]}
    encoded = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as stream:
        stream.write(len(encoded).to_bytes(8, "little"))
        stream.write(encoded)
        for name in order:
            pending = tensors[name]
            tensor = pending.make().contiguous()
            assert (tensor.dtype, tuple(tensor.shape)) == (pending.dtype, pending.shape), name
            stream.write(tensor.reshape(-1).view(torch.uint8).numpy().data)
