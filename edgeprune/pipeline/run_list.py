"""Run folders in one place: which there are, and removing one."""

import shutil
from pathlib import Path

import msgspec

from edgeprune.artifacts import RunFolder
from edgeprune.errors import ModelError, UsageError
from edgeprune.pipeline.request import read_manifest
from edgeprune.schema.base import Verdict
from edgeprune.schema.run import RunManifest
from edgeprune.schema.run_list import RunEntry, RunList

__all__ = ["list_runs", "remove_runs"]


class _Judged(msgspec.Struct):
    """What of a report is looked at: one of another version has it too."""

    verdict: Verdict


def list_runs(folder: Path) -> RunList:
    """Every run folder directly inside a folder; what is none of ours is left out.

    Raises:
        UsageError: there is no such folder.
    """
    if not folder.is_dir():
        raise UsageError(f"There is no folder {folder}; give the one that holds your runs.")
    found = [entry for path in sorted(folder.iterdir()) if (entry := _entry(path)) is not None]
    found.sort(key=lambda entry: entry.finished_at or "", reverse=True)
    return RunList(folder=str(folder), runs=tuple(found))


def remove_runs(folder: Path, names: tuple[str, ...]) -> RunList:
    """Delete run folders; all names are looked at before anything is deleted.

    Args:
        folder: that holds them.
        names: of run folders directly inside it.

    Returns:
        What was removed.

    Raises:
        UsageError: a name that is a path, no run folder, or a link.
    """
    known = {entry.name: entry for entry in list_runs(folder).runs}
    for name in names:
        if name not in known:
            offered = ", ".join(known) or "none"
            raise UsageError(f"{name!r} is no run in {folder}; it holds {offered}. Nothing was removed.")
    for name in dict.fromkeys(names):
        shutil.rmtree(folder / name)
    return RunList(folder=str(folder), runs=tuple(known[name] for name in dict.fromkeys(names)))


def _entry(path: Path) -> RunEntry | None:
    """None for what is not a run folder, or only a link to one: what is listed may be removed."""
    if path.is_symlink() or not path.is_dir():
        return None
    run = RunFolder(path)
    if not run.manifest.is_file():
        return None
    try:
        manifest = read_manifest(run)
    except (ModelError, UsageError):
        return None
    return RunEntry(
        name=path.name,
        model=manifest.request.model,
        stages=tuple(record.stage for record in manifest.stages),
        verdict=_verdict(run),
        size_bytes=sum(file.lstat().st_size for file in path.rglob("*") if file.is_symlink() or file.is_file()),
        finished_at=_finished_at(manifest),
    )


def _finished_at(manifest: RunManifest) -> str | None:
    return max((record.finished_at for record in manifest.stages), default=None)


def _verdict(run: RunFolder) -> Verdict | None:
    if not run.report.is_file():
        return None
    try:
        return msgspec.json.decode(run.report.read_bytes(), type=_Judged).verdict
    except (msgspec.MsgspecError, OSError):
        return None
