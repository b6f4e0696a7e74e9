"""Runs stages and remembers which are finished.

A stage is finished when the manifest holds its key and its outputs are there with the hashes recorded. A key covers
everything the result depends on: the hashes of the files read, the settings, our version. So the same command
resumes, and a new budget runs again only the search and what follows.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from edgeprune import __version__
from edgeprune.artifacts import RunFolder, hash_file, hash_parts, write_record
from edgeprune.errors import UsageError, describe
from edgeprune.runtime.executor import Executor, open_executor
from edgeprune.schema.events import Event, Progress
from edgeprune.schema.run import RunManifest, RunRequest, StageRecord

if TYPE_CHECKING:
    from edgeprune.intake.load import LoadedModel

__all__ = ["Run", "Stage", "hash_tree", "is_finished", "run_stage", "run_stages"]


@dataclass
class Run:
    """One run while it is worked on."""

    folder: RunFolder
    request: RunRequest
    manifest: RunManifest
    progress: Progress
    loaded: "LoadedModel | None" = None
    """The dense model, once some stage needed it; dropped when compression is done."""
    compressed: "LoadedModel | None" = None
    hashes: dict[Path, str] = field(default_factory=dict)
    """Hashes of input files outside the run folder, taken once."""
    _executor: Executor | None = None

    def hash_of(self, path: Path) -> str:
        """Content hash of a file or folder, remembered for files outside the run folder only."""
        if path.is_relative_to(self.folder.root):
            return hash_tree(path)
        if path not in self.hashes:
            self.hashes[path] = hash_tree(path)
        return self.hashes[path]

    def executor(self) -> Executor:
        """Where independent work runs; opened when first asked for.

        Raises:
            ProtocolError: the cluster asked for cannot be reached.
        """
        if self._executor is None:
            self._executor = open_executor(workers=self.request.worker_count, cluster=self.request.cluster)
        return self._executor

    def close(self) -> None:
        """End the workers, if there are any."""
        if self._executor is not None:
            self._executor.close()
        self._executor = None


@dataclass(frozen=True)
class Stage:
    """One row of the table."""

    name: str
    inputs: Callable[[Run], list[object]]
    """Everything the result depends on, in a form that `hash_parts` takes."""
    outputs: Callable[[Run], list[Path]]
    """Files and folders it writes, all inside the run folder."""
    action: Callable[[Run], str]
    """Does the work and says in a few words what came out."""
    drafts: Callable[[Run], list[Path]] = lambda _run: []
    """Files it writes that a later stage writes again: they must be there, but may change."""


def hash_tree(path: Path) -> str:
    """sha256 of a file, or of a folder's relative names and contents; `missing` when there is nothing.

    Hidden files are left out: the temporary neighbours of an atomic write are hidden.
    """
    if path.is_file():
        return hash_file(path)
    if not path.is_dir():
        return "missing"
    files = sorted(
        item
        for item in path.rglob("*")
        if item.is_file() and not any(part.startswith(".") for part in item.relative_to(path).parts)
    )
    return hash_parts(*((str(item.relative_to(path)), hash_file(item)) for item in files))


def _key(stage: Stage, run: Run) -> str:
    return hash_parts(__version__, stage.name, *stage.inputs(run))


def _record(run: Run, name: str) -> StageRecord | None:
    return next((record for record in run.manifest.stages if record.stage == name), None)


def is_finished(stage: Stage, run: Run) -> bool:
    """Whether the stage's result in the folder is the one its inputs give."""
    record = _record(run, stage.name)
    if record is None or record.key != _key(stage, run):
        return False
    root = run.folder.root
    if not all(path.exists() for path in stage.drafts(run)):
        return False
    return all(hash_tree(root / name) == digest for name, digest in record.outputs.items())


def run_stage(stage: Stage, run: Run) -> None:
    """Run one stage and record it in the manifest."""
    run.progress.raise_if_cancelled()
    run.progress.emit(Event(kind="stage_started", stage=stage.name))
    key = _key(stage, run)
    started = time.perf_counter()
    try:
        message = stage.action(run)
    except BaseException as error:
        run.progress.emit(Event(kind="failed", stage=stage.name, message=describe(error)[0]))
        raise
    took_s = time.perf_counter() - started
    for path in (*stage.drafts(run), *stage.outputs(run)):
        if not path.exists():
            raise UsageError(f"Stage {stage.name} left no {path.name}; this is a defect, please report it.")
    outputs = {str(path.relative_to(run.folder.root)): hash_tree(path) for path in stage.outputs(run)}
    record = StageRecord(
        stage=stage.name,
        key=key,
        outputs=outputs,
        took_s=round(took_s, 3),
        finished_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    others = tuple(item for item in run.manifest.stages if item.stage != stage.name)
    run.manifest = replace(run.manifest, request=run.request, stages=(*others, record))
    write_record(run.folder.manifest, run.manifest)
    run.progress.emit(Event(kind="stage_finished", stage=stage.name, message=message, done_fraction=1.0))


def run_stages(stages: tuple[Stage, ...], run: Run) -> None:
    """Run the stages in order, skipping those whose result is already there."""
    for stage in stages:
        if is_finished(stage, run):
            run.progress.emit(Event(kind="stage_skipped", stage=stage.name, message="finished before"))
        else:
            run_stage(stage, run)
