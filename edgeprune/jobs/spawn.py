"""Starts a job's child process, and ends one that a killed daemon has left behind."""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import msgspec

from edgeprune.jobs.folder import JobFolder
from edgeprune.jobs.memory_guard import JOB_GROUP, Guard
from edgeprune.runtime.isolate import child_environment
from edgeprune.schema.jobs import JobRequest

__all__ = ["Started", "end_leftover", "start_child"]

_PATIENCE_S = 10.0


class Started(NamedTuple):
    """A child at work."""

    process: "subprocess.Popen[bytes]"
    bell: int
    """Descriptor that gives a byte for each event, and its end when the child is gone."""


def start_child(
    folder: JobFolder,
    request: JobRequest,
    *,
    module: str = "edgeprune.jobs.child",
    guard: Guard = Guard(),  # noqa: B008
) -> Started:
    """Start the child of a job; the calling thread must live as long as the child shall.

    Args:
        folder: the job's files.
        request: what the child finds there.
        module: its main does the work.
        guard: what the child's memory is limited by.

    Raises:
        OSError: the folder cannot be written, or no process started.
    """
    folder.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    _write_private(folder.request, msgspec.json.encode(request))
    name = folder.root.name
    group = guard.make_group(name)
    if group is not None:
        _write_private(folder.group, os.fsencode(group))
    bell, ring = os.pipe()
    log = os.open(folder.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        process = subprocess.Popen(
            guard.command([sys.executable, "-m", module, str(folder.root), str(os.getpid()), str(ring)], name),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder.root,
            env=child_environment(None) | ({} if group is None else {JOB_GROUP: str(group)}),
            pass_fds=(ring,),
            start_new_session=True,
        )
    except BaseException:
        os.close(bell)
        raise
    finally:
        os.close(log)
        os.close(ring)
    return Started(process, bell)


def end_leftover(folder: JobFolder) -> None:
    """Kill a child that outlived the daemon that started it, and wait until it is gone."""
    try:
        descriptor = os.open(folder.lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        ends_at = time.monotonic() + _PATIENCE_S
        while time.monotonic() < ends_at:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            text = os.pread(descriptor, 32, 0)
            with contextlib.suppress(ValueError, ProcessLookupError, PermissionError):
                os.kill(int(text), signal.SIGKILL)
            time.sleep(0.02)
    finally:
        os.close(descriptor)


def _write_private(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as stream:
        stream.write(data)
    temporary.replace(path)
