"""`Emulation`: a smaller device asked for on this one, and `EmulatedDevice`: what of it could be enforced."""

from edgeprune.errors import UsageError
from edgeprune.schema.base import Record
from edgeprune.units import format_bytes, parse_bytes

__all__ = ["EmulatedDevice", "Emulation", "parse_emulation"]


class Emulation(Record, frozen=True, kw_only=True):
    """Limits put on every measuring process."""

    core_count: int | None = None
    """None leaves this process's cores."""
    memory_bytes: int | None = None
    """None leaves memory unlimited."""


class EmulatedDevice(Record, frozen=True, kw_only=True):
    """The limits as they held while measuring."""

    core_count: int | None
    cores: tuple[int, ...]
    """The system's numbers of the cores measured on; all this process had when cores were not limited."""
    memory_bytes: int | None
    is_memory_enforced: bool
    """True when a control group of the measuring processes really had this limit."""

    @property
    def text(self) -> str:
        """In words, such as `emulated: 1 core, memory limit 512 MB not enforceable here`."""
        parts = []
        if self.core_count is not None:
            parts.append(f"{self.core_count} core{'s' if self.core_count > 1 else ''}")
        if self.memory_bytes is not None:
            held = "" if self.is_memory_enforced else " not enforceable here"
            parts.append(f"memory limit {format_bytes(self.memory_bytes)}{held}")
        return f"emulated: {', '.join(parts)}"


def parse_emulation(text: str) -> Emulation:
    """Read `cores=1,memory=512MB`; either part may be left out.

    Raises:
        UsageError: an unknown or repeated part, or a value that is none.
    """
    found: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if name not in ("cores", "memory") or not equals or name in found:
            raise UsageError(f"--emulate {text!r} cannot be read at {part!r}; write it like cores=1,memory=512MB.")
        found[name] = value
    cores = found.get("cores")
    if cores is not None and (not cores.isascii() or not cores.isdigit() or int(cores) < 1):
        raise UsageError(f"--emulate cores={cores} is not a number of cores; write it like cores=1.")
    memory = found.get("memory")
    memory_bytes = None if memory is None else parse_bytes(memory, what="--emulate memory")
    if memory_bytes == 0:
        raise UsageError("--emulate memory leaves nothing; give more than zero.")
    return Emulation(core_count=None if cores is None else int(cores), memory_bytes=memory_bytes)
