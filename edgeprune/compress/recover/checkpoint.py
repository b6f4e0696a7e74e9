"""What a training keeps on disk so that it can be killed: one safetensors file, whole or not there; no pickle.

Its header holds the key of the work it belongs to, how far it came and what it had reached, as JSON. A file of other
work, or a damaged one, is as good as none: the training then begins anew.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from edgeprune.artifacts import hash_parts
from edgeprune.errors import DeviceError

__all__ = ["Checkpoint", "CheckpointFile"]

_FIELD = "edgeprune"


@dataclass(kw_only=True)
class Checkpoint:
    """A training at one moment."""

    phase: str
    """`blockwise` or `distill`."""
    position: int
    """Blocks finished, or steps taken."""
    figures: dict[str, float] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Tensors stored under `prefix/`, by the rest of their names."""
        return {
            name.removeprefix(f"{prefix}/"): value
            for name, value in self.tensors.items()
            if name.startswith(f"{prefix}/")
        }


class CheckpointFile:
    """The file of one training; without a path nothing is kept."""

    def __init__(self, path: Path | None, *parts: object) -> None:
        """Name the file and everything the training's result depends on; nothing is read or written."""
        self._path = path
        self._key = "" if path is None else hash_parts(*parts)

    def read(self) -> Checkpoint | None:
        """What was kept of this very work; None when there is nothing of use."""
        if self._path is None or not self._path.is_file():
            return None
        try:
            with safe_open(self._path, framework="pt") as file:
                header = msgspec.json.decode((file.metadata() or {}).get(_FIELD, "{}"), type=_Header)
                if header.key != self._key:
                    return None
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        except (SafetensorError, OSError, msgspec.DecodeError):
            return None
        return Checkpoint(phase=header.phase, position=header.position, figures=header.figures, tensors=tensors)

    def write(self, phase: str, position: int, figures: Mapping[str, float], tensors: Mapping[str, Tensor]) -> None:
        """Replace what is kept.

        Raises:
            DeviceError: the disk is full or cannot be written.
        """
        if self._path is None:
            return
        header = _Header(key=self._key, phase=phase, position=position, figures=dict(figures))
        partial = self._path.with_name(f".{self._path.name}.partial")
        stored = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            save_file(stored, partial, metadata={_FIELD: msgspec.json.encode(header).decode()})
            with partial.open("rb") as stream:
                os.fsync(stream.fileno())
            partial.replace(self._path)
        except (OSError, SafetensorError) as error:
            partial.unlink(missing_ok=True)
            raise DeviceError(f"{self._path} cannot be written ({error}); free space and run again.") from error

    def remove(self) -> None:
        """Once the training is finished, and its result is safe elsewhere."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


class _Header(msgspec.Struct):
    key: str
    phase: str
    position: int
    figures: dict[str, float]
