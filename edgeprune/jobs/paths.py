"""Paths of a request: made absolute where it is written, checked where it is taken.

A client stands in a folder, a daemon in none: so every path of a request is absolute and has no `..`, and what a job
writes is a plain name inside `runs`, a folder that is no link to somewhere else.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from msgspec.structs import replace

from edgeprune.errors import UsageError
from edgeprune.schema.jobs import (
    ChooseJob,
    CompressJob,
    DemoJob,
    ExplainJob,
    ExportJob,
    FitJob,
    GenerateJob,
    JobRequest,
    LaserJob,
    PlanJob,
    ProfileJob,
    ReportJob,
    RunJob,
    SearchJob,
    TechniqueJob,
    ValidateJob,
)

__all__ = ["RUNS_NAME", "absolute_request", "check_request", "place_output"]

RUNS_NAME = "edgeprune-runs"
"""Folder of run folders, as the command line names it."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@-]{0,127}")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?(@[\w.-]+)?")
_LONGEST_PATH = 4095
_LONGEST_TEXT = 1 << 18
_LARGEST_MEMORY = (1 << 63) - 1

T = TypeVar("T")
Edit = Callable[[str, str], str]
"""(field, text) -> the text to keep; raises for one that cannot be used."""


def absolute_request(request: JobRequest, folder: Path | None = None) -> JobRequest:
    """The same request with every path absolute from `folder` (None: where this process stands) and `runs` named."""
    base = Path.cwd() if folder is None else folder

    def path(_: str, text: str) -> str:
        return os.path.normpath(base / Path(text).expanduser()) if text else text

    def model_or_device(field: str, text: str) -> str:
        return path(field, text) if text and _is_path(text, base) else text

    found = _edited(request, path=path, named=model_or_device, name=lambda _, text: text)
    runs = Path(found.runs) if found.runs is not None else base / RUNS_NAME
    return replace(found, runs=os.path.realpath(base / runs.expanduser()))


def check_request(request: JobRequest) -> None:
    """Refuse a request whose paths a daemon must not take.

    Raises:
        UsageError: a relative path, `..`, a name with a separator, or text that is no path at all; it names the field.
    """
    _edited(request, path=_checked_path, named=_checked_named, name=_checked_name)
    if request.memory_bytes is not None and not 0 <= request.memory_bytes <= _LARGEST_MEMORY:
        raise UsageError(f"memory_bytes is {request.memory_bytes}; give a size of at most 8 EB, or 0 for no limit.")
    if isinstance(request, GenerateJob) and len(request.prompt) > _LONGEST_TEXT:
        raise UsageError(f"prompt has more than {_LONGEST_TEXT} characters; shorten it.")
    if request.runs is None:
        return
    _checked_path("runs", request.runs)
    if os.path.realpath(request.runs) != request.runs:
        raise UsageError(f"runs: {request.runs!r} leads through a link; give the folder it leads to.")
    if request.runs == "/":
        raise UsageError("runs: run folders are not made in the root of the file system; give another folder.")
    output = getattr(request, "output", None)
    if output is not None and (Path(request.runs) / output).is_symlink():
        raise UsageError(f"output: {output!r} is a link in {request.runs}; give another name.")


def place_output(output: Path | None, *, base: Path | None = None) -> tuple[str | None, str | None]:
    """`runs` and `output` of a request for the folder given with `-o`; both None without one."""
    if output is None:
        return None, None
    full = Path(os.path.normpath((base or Path.cwd()) / output.expanduser()))
    return os.path.realpath(full.parent), full.name


def _edited(request: JobRequest, *, path: Edit, named: Edit, name: Edit) -> JobRequest:
    """The request with each of its texts that means a file edited: a path, a path or a known name, a plain name."""

    def one(record: Any, field: str, edit: Edit) -> Any:
        value = getattr(record, field)
        return None if value is None else edit(field, value)

    def many(record: Any, field: str, edit: Edit) -> tuple[str, ...]:
        return tuple(edit(field, value) for value in getattr(record, field))

    def fields(record: T, paths: tuple[str, ...] = (), lists: tuple[str, ...] = (), names: tuple[str, ...] = (),
               known: tuple[str, ...] = (), known_lists: tuple[str, ...] = ()) -> T:  # fmt: skip
        changed = {field: one(record, field, path) for field in paths}
        changed |= {field: many(record, field, path) for field in lists}
        changed |= {field: one(record, field, name) for field in names}
        changed |= {field: one(record, field, named) for field in known}
        changed |= {field: many(record, field, named) for field in known_lists}
        return replace(record, **changed)  # type: ignore[type-var]

    match request:
        case RunJob():
            inner = fields(request.request, ("recipe", "questions"), ("domain", "general", "evaluation", "also"),
                           known=("model", "device"))  # fmt: skip
            return replace(fields(request, names=("output",)), request=inner)
        case ChooseJob():
            chosen = fields(request.request, ("questions",), ("domain", "general", "evaluation"),
                            known_lists=("models", "devices"))  # fmt: skip
            return replace(fields(request, names=("output",)), request=chosen)
        case SearchJob() | ExportJob() | CompressJob() | ReportJob():
            return fields(request, ("run",))
        case ValidateJob():
            return fields(request, ("path",), names=("recalibrate",))
        case ExplainJob():
            return fields(request, ("path", "run"))
        case TechniqueJob():
            return fields(request, (), ("domain", "general"), names=("output", "technique"), known=("model",))
        case LaserJob():
            return fields(request, ("questions",), ("domain",), names=("output",), known=("model",))
        case GenerateJob():
            return fields(request, ("bundle",))
        case PlanJob() | FitJob():
            return fields(request, known=("device",), known_lists=("models",))
        case DemoJob():
            return fields(request, known=("device",))
        case ProfileJob():
            return fields(request, names=("save",))
        case _:
            return request


def _is_path(text: str, base: Path) -> bool:
    return text.startswith(("/", ".", "~")) or text.endswith(".json") or (base / text).exists()


def _checked_path(field: str, text: str) -> str:
    if "\0" in text or not text.isprintable() or len(os.fsencode(text)) > _LONGEST_PATH:
        raise UsageError(f"{field}: {text[:80]!r} is no path; give the absolute path of a file or folder.")
    parts = PurePosixPath(text).parts
    if not text.startswith("/") or ".." in parts:
        raise UsageError(f"{field}: {text[:200]!r} must be an absolute path without '..'.")
    return text


def _checked_named(field: str, text: str) -> str:
    if text.startswith("/"):
        return _checked_path(field, text)
    if _HUB_ID.fullmatch(text) is None or ".." in text:
        raise UsageError(f"{field}: {text[:200]!r} is neither an absolute path without '..' nor a name.")
    return text


def _checked_name(field: str, text: str) -> str:
    if _NAME.fullmatch(text) is None or ".." in text:
        raise UsageError(
            f"{field}: {text[:200]!r} is no plain name; use letters, digits, dots, dashes and underscores."
        )
    return text
