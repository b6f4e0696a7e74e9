"""Tensors whose bytes lie in a mapped file: read when they are touched, dropped by the system when memory is short.

A mapping is shared and read-only, so its pages are the file's and never this process's own (anonymous) memory; they do
not count against a limit on data either. float32 is a plain tensor on the pages; float16 and bfloat16 become a
`StoredWeight` that widens what is asked for.
"""

import mmap
import warnings
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from edgeprune.errors import ModelError
from edgeprune.intake.headers import TensorHeader
from edgeprune.intake.stored.weight import StoredWeight

__all__ = ["MappedFile", "MappedSource", "mapped_tensor"]

_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class MappedFile:
    """One file, mapped for as long as a tensor of it lives."""

    def __init__(self, stream: IO[bytes]) -> None:
        """Map an open file; it may be closed afterwards, or deleted."""
        self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        with warnings.catch_warnings():
            # Torch has no tensors that may not be written; ours are replaced, never written into.
            warnings.simplefilter("ignore", UserWarning)
            self._bytes = torch.frombuffer(self._map, dtype=torch.uint8)
        self.size = len(self._bytes)

    @classmethod
    def open(cls, path: Path) -> "MappedFile":
        """Map the file of that name.

        Raises:
            ModelError: it cannot be read.
        """
        try:
            with path.open("rb") as stream:
                return cls(stream)
        except (OSError, ValueError) as error:
            raise ModelError(f"{path} cannot be mapped into memory ({error}); check the file.") from error

    def tensor(self, dtype: torch.dtype, shape: tuple[int, ...], offset: int) -> Tensor:
        """The tensor at an offset, on the pages of the file; a copy where the offset fits no value of that size."""
        count = torch.Size(shape).numel() * dtype.itemsize
        part = self._bytes[offset : offset + count]
        if (self._bytes.data_ptr() + offset) % dtype.itemsize:
            part = part.clone()
        return part.view(dtype).view(shape)

    def holds(self, tensor: Tensor) -> bool:
        """Whether a plain tensor's values lie in this file."""
        start = self._bytes.data_ptr()
        return start <= tensor.data_ptr() < start + self.size


class MappedSource:
    """A matrix of 16-bit floats on the pages of a file."""

    def __init__(self, values: Tensor) -> None:
        """Take it; [rows, columns]."""
        self.values = values
        self.shape = (values.shape[0], values.shape[1])

    def read(self, rows: slice | Tensor | None = None) -> Tensor:
        """As `Source.read`."""
        return (self.values if rows is None else self.values[rows]).to(torch.float32)


def mapped_tensor(file: MappedFile, header: TensorHeader) -> Tensor:
    """A tensor of a safetensors file as float32: matrices stay in the file, the rest is read now.

    Raises:
        ModelError: it has a dtype that no weights have.
    """
    if header.dtype not in _DTYPES:
        raise ModelError(f"The tensor {header.name!r} is stored as {header.dtype}, which holds no weights.")
    values = file.tensor(_DTYPES[header.dtype], header.shape, header.begin)
    if values.ndim != 2:
        return values.to(torch.float32, copy=True)
    return values if values.dtype == torch.float32 else StoredWeight(MappedSource(values))
