"""Files: atomic writes, content hashes, records in JSON and TOML, and where things stand in a run folder."""

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from edgeprune.errors import DeviceError, ModelError, UsageError
from edgeprune.schema.base import SCHEMA_VERSION

if TYPE_CHECKING:
    import numpy as np  # 10 MB and 0.2 s: the daemon and most verbs read no arrays

__all__ = [
    "TOKENIZER_MOST_BYTES",
    "RunFolder",
    "atomic_folder",
    "atomic_write",
    "check_tokenizer_size",
    "hash_file",
    "hash_parts",
    "read_arrays",
    "read_record",
    "read_toml",
    "record_json",
    "repair_lines",
    "resolve_inside",
    "write_arrays",
    "write_record",
]

T = TypeVar("T")

TOKENIZER_MOST_BYTES = 50_000_000
"""Of a tokenizer.json. The largest known, of 262,144 tokens and half a million merges, has 33 MB; each merge takes at
least six bytes, and what is read takes ten times the file's bytes in memory."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check_tokenizer_size(path: Path) -> None:
    """Refuse a tokenizer file made to fill the memory, before it is read.

    Raises:
        ModelError: larger than any model's.
    """
    size = path.stat().st_size
    if size > TOKENIZER_MOST_BYTES:
        raise ModelError(
            f"{path} has {size / 1e6:.0f} MB, more than the tokens and merges of any model's tokenizer take (at most "
            f"{TOKENIZER_MOST_BYTES / 1e6:.0f} MB are read); do not trust the model it came with."
        )


def hash_file(path: Path) -> str:
    """sha256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def hash_parts(*parts: object) -> str:
    """sha256 over the deterministic JSON of each part; the cache key of everything."""
    digest = hashlib.sha256()
    for part in parts:
        encoded = msgspec.json.encode(part, order="deterministic")
        digest.update(len(encoded).to_bytes(8, "big"))
        digest.update(encoded)
    return digest.hexdigest()


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Turn the system's refusals into our errors."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DeviceError(f"The disk is full while writing {path}; free space and run again.") from error
        if isinstance(error, PermissionError) or error.errno == errno.EROFS:
            raise UsageError(f"{path} cannot be written ({error.strerror}); choose another folder with -o.") from error
        raise


def atomic_write(path: Path, data: bytes) -> None:
    """Write a whole file or nothing: a temporary file beside it, flushed, then renamed.

    Raises:
        DeviceError: the disk is full.
        UsageError: the folder cannot be written.
    """
    with _disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path` that takes its place when the block ends well, and vanishes otherwise.

    Raises:
        DeviceError: the disk is full.
        UsageError: the parent cannot be written.
    """
    with _disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        try:
            yield temporary
            temporary.chmod(0o755)
            if path.exists():
                shutil.rmtree(path)
            temporary.replace(path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def resolve_inside(folder: Path, relative: str) -> Path:
    """The path of a name read from a file, refused when it leaves `folder` (also through a link).

    Raises:
        ModelError: absolute, upward, or linked outside.
    """
    root = folder.resolve()
    target = (root / relative).resolve()
    if Path(relative).is_absolute() or not target.is_relative_to(root) or target == root:
        raise ModelError(f"The path {relative!r} named in {folder} leaves that folder; refuse files from this source.")
    return target


def repair_lines(path: Path) -> int:
    """Cut off a last line without an end, as a kill or a full disk leaves it; gives the bytes that stay.

    A file that is missing has none.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        size = end = os.fstat(descriptor).st_size
        while end > 0:
            start = max(0, end - 4096)
            found = os.pread(descriptor, end - start, start).rfind(b"\n")
            if found >= 0:
                end = start + found + 1
                break
            end = start
        if end != size:
            os.ftruncate(descriptor, end)
        return end
    finally:
        os.close(descriptor)


def record_json(record: Any, *, indent: int = 2) -> bytes:
    """Deterministic JSON of a record, ending in a newline."""
    return msgspec.json.format(msgspec.json.encode(record, order="deterministic"), indent=indent) + b"\n"


def write_record(path: Path, record: Any) -> None:
    """Write a record as JSON, atomically."""
    atomic_write(path, record_json(record))


def read_record(path: Path, kind: type[T], *, error: type[Exception] = ModelError) -> T:
    """Read a record from JSON.

    Raises:
        error: missing, not JSON, of a newer schema version, or not of this kind.
    """
    data = _read(path, error)
    try:
        version = msgspec.json.decode(data, type=dict[str, Any]).get("schema_version", SCHEMA_VERSION)
        _check_version(version, path, error)
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise error(f"{path} is not a valid {kind.__name__} ({problem}); write it again.") from problem


def read_toml(path: Path, kind: type[T]) -> T:
    """Read a record from TOML.

    Raises:
        UsageError: missing, not TOML (with the line), of a newer version, or with unknown or wrong fields.
    """
    data = _read(path, UsageError)
    try:
        raw = msgspec.toml.decode(data)
        _check_version(raw.get("schema_version", SCHEMA_VERSION), path, UsageError)
        return msgspec.convert(raw, type=kind)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as problem:
        raise UsageError(f"{path} is not a valid {kind.__name__}: {problem}.") from problem


def write_arrays(path: Path, arrays: "Mapping[str, np.ndarray[Any, Any]]") -> None:
    """Write named arrays as an uncompressed .npz with sorted names and fixed times, atomically."""
    import io
    import zipfile

    import numpy as np

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            member = io.BytesIO()
            np.lib.format.write_array(member, np.ascontiguousarray(arrays[name]), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue())
    atomic_write(path, buffer.getvalue())


def read_arrays(path: Path, *, error: type[Exception] = ModelError) -> "dict[str, np.ndarray[Any, Any]]":
    """Read named arrays from an .npz; pickled objects are refused.

    Raises:
        error: missing or malformed.
    """
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError as problem:
        raise error(f"{path} is missing; run the stage that writes it.") from problem
    except (OSError, ValueError, KeyError, EOFError) as problem:
        raise error(f"{path} is not a readable array file ({problem}); write it again.") from problem
    except Exception as problem:  # zipfile raises BadZipFile and zlib.error, which share no base
        raise error(f"{path} is damaged ({problem}); write it again.") from problem


def _read(path: Path, error: type[Exception]) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as problem:
        raise error(f"{path} is missing.") from problem
    except OSError as problem:
        raise error(f"{path} cannot be read ({problem.strerror}).") from problem


def _check_version(version: object, path: Path, error: type[Exception]) -> None:
    if not isinstance(version, int) or version > SCHEMA_VERSION or version < 1:
        raise error(
            f"{path} has schema version {version}, this EdgePrune reads up to {SCHEMA_VERSION}; "
            "use the EdgePrune that wrote it."
        )


class RunFolder:
    """Paths inside a run folder."""

    def __init__(self, root: Path) -> None:
        """Name the folder; nothing is created."""
        self.root = root

    @property
    def device(self) -> Path:
        """`DeviceProfile`."""
        return self.root / "device.json"

    @property
    def model(self) -> Path:
        """`ModelSpec` of the dense model."""
        return self.root / "model.json"

    @property
    def stats(self) -> Path:
        """Calibration statistics, safetensors."""
        return self.root / "stats.safetensors"

    @property
    def scores(self) -> Path:
        """`Scores`; its arrays are in `scores_arrays`."""
        return self.root / "scores.json"

    @property
    def scores_arrays(self) -> Path:
        """Arrays of `Scores`."""
        return self.root / "scores.npz"

    @property
    def texts(self) -> Path:
        """Domain and general texts, split, as JSON lines."""
        return self.root / "texts"

    @property
    def shards(self) -> Path:
        """Finished parts of a calibration that is not finished."""
        return self.root / "shards"

    @property
    def residuals(self) -> Path:
        """`Residuals`: the recipes that were built, and what they taught."""
        return self.root / "residuals.json"

    @property
    def recovery_plans(self) -> Path:
        """`RecoveryPlans`, where a recovery was asked for."""
        return self.root / "recovery.json"

    @property
    def trainings(self) -> Path:
        """What a recovery that is not finished keeps."""
        return self.root / "trainings"

    @property
    def front(self) -> Path:
        """`SearchResult`."""
        return self.root / "front.json"

    @property
    def recipe(self) -> Path:
        """`Recipe`, editable."""
        return self.root / "recipe.toml"

    @property
    def hf(self) -> Path:
        """The compressed model in Hugging Face layout."""
        return self.root / "hf"

    @property
    def bundle(self) -> Path:
        """The exported bundle."""
        return self.root / "bundle"

    def baseline(self, label: str) -> Path:
        """A bundle to compare with: `dense`, `int8` or `int4`."""
        return self.root / "baselines" / label

    @property
    def validation(self) -> Path:
        """`ValidationReport`."""
        return self.root / "validation.json"

    @property
    def recalibration(self) -> Path:
        """`Recalibration`, where the run's measurements corrected a profile."""
        return self.root / "recalibration.json"

    @property
    def report(self) -> Path:
        """`RunReport` as JSON; Markdown and HTML stand beside it."""
        return self.root / "report.json"

    @property
    def events(self) -> Path:
        """Events, one JSON object a line."""
        return self.root / "events.jsonl"

    @property
    def manifest(self) -> Path:
        """What the run was made from: marks a folder as ours."""
        return self.root / "manifest.json"
