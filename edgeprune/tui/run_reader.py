"""Reads a run folder's records again when their files change; kept in a thread of the feed."""

from pathlib import Path
from typing import Any

from edgeprune.errors import EdgePruneError
from edgeprune.schema.bundle import BundleManifest
from edgeprune.schema.candidate import SearchResult
from edgeprune.schema.device import DeviceProfile
from edgeprune.schema.measurement import ValidationReport
from edgeprune.schema.model import ModelSpec
from edgeprune.schema.report import RunReport
from edgeprune.schema.run import RunManifest
from edgeprune.tui.messages import RecordsRead
from edgeprune.tui.view_state import RunRecords

__all__ = ["RunReader"]

_KINDS: dict[str, tuple[str, type]] = {
    "manifest": ("manifest.json", RunManifest),
    "device": ("device.json", DeviceProfile),
    "model": ("model.json", ModelSpec),
    "front": ("front.json", SearchResult),
    "bundle": ("bundle/edgeprune.json", BundleManifest),
    "validation": ("validation.json", ValidationReport),
    "report": ("report.json", RunReport),
}
_REPORT_TEXT = "report.md"


class RunReader:
    """One run folder; files are told apart by their time and size."""

    def __init__(self, folder: str) -> None:
        """Nothing is read yet."""
        self.folder = folder
        self._seen: dict[str, tuple[int, int]] = {}
        self._records: dict[str, Any] = {}
        self._text: str | None = None
        self.problems: tuple[str, ...] = ()
        """Sentences on records that cannot be read, of the last reading."""

    def read(self) -> RecordsRead | None:
        """The records, when any file changed since the last reading; None when none did."""
        found = False
        problems = []
        for name, (file, kind) in _KINDS.items():
            if not self._has_changed(file):
                continue
            found = True
            self._records[name], problem = _record(Path(self.folder, file), kind)
            problems += [] if problem is None else [problem]
        if self._has_changed(_REPORT_TEXT):
            found = True
            self._text = _text(Path(self.folder, _REPORT_TEXT))
        self.problems = tuple(problems)
        return RecordsRead(self.folder, RunRecords(**self._records), self._text) if found else None

    def _has_changed(self, file: str) -> bool:
        try:
            found = Path(self.folder, file).stat()
            stamp = (found.st_mtime_ns, found.st_size)
        except OSError:
            stamp = (0, 0)
        if self._seen.get(file, (0, 0)) == stamp:
            return False
        self._seen[file] = stamp
        return True


def _record(path: Path, kind: type) -> tuple[Any, str | None]:
    from edgeprune.artifacts import read_record  # numpy, which the first paint does without

    if not path.is_file():
        return None, None
    try:
        return read_record(path, kind), None
    except EdgePruneError as error:
        return None, str(error)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
