"""Read speed of the disk that holds the run folder, past the page cache.

Writes a file of random bytes (so that a compressing file system gains nothing), flushes it, drops it from the page
cache with posix_fadvise(DONTNEED), and times reading it back: with O_DIRECT where the file system allows it,
otherwise through the emptied cache. On a file system that lives in memory the figure is that memory's.
"""

import mmap
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from edgeprune.errors import DeviceError, UsageError
from edgeprune.schema.device import DiskInfo

__all__ = ["measure_disk"]

_PIECE_BYTES = 1 << 20


def measure_disk(folder: Path, *, file_bytes: int, sample_count: int) -> DiskInfo:
    """Median read speed over `sample_count` readings of a temporary file in `folder`; None where it cannot be told.

    Raises:
        UsageError: the folder cannot be written.
        DeviceError: the disk is full.
    """
    file_bytes = max(1, file_bytes // _PIECE_BYTES) * _PIECE_BYTES
    existing = folder if folder.is_dir() else next(parent for parent in folder.resolve().parents if parent.is_dir())
    try:
        with tempfile.NamedTemporaryFile(dir=existing, prefix=".edgeprune-disk.") as stream:
            _fill(stream.fileno(), file_bytes)
            speeds = [speed for _ in range(sample_count) if (speed := _read_speed(Path(stream.name))) is not None]
    except PermissionError as error:
        raise UsageError(
            f"{existing} cannot be written, so its disk cannot be measured; choose another with -o."
        ) from error
    except OSError as error:
        raise DeviceError(
            f"The disk of {existing} could not be measured ({error.strerror}); free space there."
        ) from error
    return DiskInfo(read_bytes_per_s=float(np.median(speeds)) if speeds else None)


def _fill(descriptor: int, file_bytes: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(file_bytes // _PIECE_BYTES):
        piece = rng.bytes(_PIECE_BYTES)
        while piece:
            piece = piece[os.write(descriptor, piece) :]
    os.fsync(descriptor)  # DONTNEED drops clean pages only


def _read_speed(path: Path) -> float | None:
    """Bytes per second of one reading; None where neither O_DIRECT nor a cache drop is to be had."""
    direct = getattr(os, "O_DIRECT", 0)
    if direct:
        try:
            return _timed_read(os.open(path, os.O_RDONLY | direct))
        except OSError:  # tmpfs and some overlay and network file systems refuse O_DIRECT
            pass
    if not hasattr(os, "posix_fadvise"):
        return None
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    return _timed_read(descriptor)


def _timed_read(descriptor: int) -> float:
    # An anonymous mapping starts on a page boundary, as O_DIRECT asks of its buffer.
    with os.fdopen(descriptor, "rb", buffering=0) as stream, mmap.mmap(-1, _PIECE_BYTES) as buffer:
        total = 0
        start_s = time.perf_counter()
        while size := stream.readinto(buffer):
            total += size
        elapsed_s = time.perf_counter() - start_s
    return total / max(elapsed_s, 1e-9)
