"""The daemon of this user from outside: `connect` finds it or starts it, `stop_daemon` ends it."""

import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import httpx

from edgeprune import errors
from edgeprune.errors import DeviceError, EdgePruneError, ExitCode, ProtocolError
from edgeprune.jobs.daemon_client import DaemonClient
from edgeprune.jobs.places import Places
from edgeprune.runtime.isolate import child_environment
from edgeprune.schema.jobs import DaemonStatus

__all__ = ["DaemonClient", "connect", "find_daemon", "start_daemon", "stop_daemon"]

_START_S = 60.0
_STOP_S = 30.0
_LOG_BYTES = 1 << 20


def find_daemon(places: Places | None = None) -> DaemonClient | None:
    """The daemon that answers; None where none does.

    Raises:
        ProtocolError: one that speaks another version answers, or one of another user.
    """
    path = (places or Places.of_user()).socket
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knock:  # httpx would leave its own open when refused
        try:
            knock.connect(str(path))
        except OSError:
            return None
        _check_owner(knock, path)
    client = DaemonClient(path)
    try:
        client.status()
    except ProtocolError as error:
        client.close()
        if isinstance(error.__cause__, httpx.TransportError):
            return None
        raise
    return client


def _check_owner(knock: socket.socket, path: Path) -> None:
    """Speak to nobody else: a folder that is made at login may have been somebody's before.

    Raises:
        ProtocolError: the process that listens is another user's.
    """
    if not sys.platform.startswith("linux"):
        return
    credentials = knock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    uid = struct.unpack("3i", credentials)[1]
    if uid != os.getuid():
        raise ProtocolError(f"What listens on {path} belongs to another user (id {uid}); remove that socket.")


def connect(start: bool = True, *, places: Places | None = None) -> DaemonClient:
    """The daemon of this user, started when it does not run.

    Raises:
        ProtocolError: it cannot be reached, does not start, or speaks another version.
        EdgePruneError: why it does not start, where it says so.
    """
    where = places or Places.of_user()
    found = find_daemon(where)
    if found is not None:
        return found
    if not start:
        raise ProtocolError("No daemon runs; `edgeprune daemon start` starts one.")
    start_daemon(where)
    return DaemonClient(where.socket)


def start_daemon(places: Places) -> None:
    """Start a daemon that outlives this process, and wait until it answers.

    Raises:
        EdgePruneError: it ended instead; the sentence is its own.
    """
    places.make()
    environment = child_environment(None) | {
        "EDGEPRUNE_RUNTIME_DIR": str(places.runtime),
        "EDGEPRUNE_STATE_DIR": str(places.state),
    }
    try:
        if places.log.is_file() and places.log.stat().st_size > _LOG_BYTES:
            places.log.replace(places.log.with_suffix(".old.log"))
        log = os.open(places.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DeviceError(f"{places.log} cannot be written ({error.strerror}); free space.") from error
    begin = os.fstat(log).st_size
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "edgeprune.jobs.daemon"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=environment,
            start_new_session=True,
        )
    finally:
        os.close(log)
    ends_at = time.monotonic() + _START_S
    pause_s = 0.02
    while time.monotonic() < ends_at:
        found = find_daemon(places)
        if found is not None:
            found.close()
            process.returncode = process.returncode or 0  # it lives on; no warning that nobody waited for it
            return
        # Ended because another one was faster? Then that one answers in a moment.
        if process.poll() not in (None, int(ExitCode.UNREACHABLE)):
            raise _said(places.log, begin, process.returncode)
        time.sleep(pause_s)
        pause_s = min(0.2, pause_s * 1.5)
    if process.poll() is None:
        raise ProtocolError(f"The daemon did not answer within {_START_S:.0f} s; {places.log} says what it does.")
    raise _said(places.log, begin, process.returncode)


def stop_daemon(places: Places, status: DaemonStatus) -> None:
    """Ask the daemon to stop, and wait until it has.

    Raises:
        ProtocolError: it does not.
    """
    try:
        os.kill(status.pid, signal.SIGTERM)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise ProtocolError(f"Process {status.pid} is not yours to stop.") from error
    ends_at = time.monotonic() + _STOP_S
    while time.monotonic() < ends_at:
        if not _is_held(places.lock):
            return
        time.sleep(0.05)
    raise ProtocolError(f"The daemon (process {status.pid}) has not stopped within {_STOP_S:.0f} s; end it with kill.")


def _is_held(lock: Path) -> bool:
    """Whether a daemon lives that holds this lock."""
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _said(log: Path, begin: int, code: int | None) -> EdgePruneError:
    """The last sentence of a daemon that ended, as an error of its exit code."""
    with log.open("rb") as stream:
        stream.seek(begin)
        lines = stream.read().decode("utf-8", "replace").strip().splitlines()
    last = lines[-1] if lines else f"it ended with exit code {code} and nothing in {log}; is the disk full?"
    sentence = last.partition("edgeprune: ")[2] or f"The daemon did not start: {last}"
    kinds: dict[int, type[EdgePruneError]] = {2: errors.UsageError, 4: DeviceError}
    return kinds.get(code or 0, ProtocolError)(sentence)
