"""`DaemonClient`: jobs run by the daemon of this user, over its unix socket; `connect` starts one on demand."""

import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec
from msgspec.structs import replace

from edgeprune import errors
from edgeprune.errors import DeviceError, EdgePruneError, ExitCode, ProtocolError
from edgeprune.jobs.paths import absolute_request
from edgeprune.jobs.places import Places
from edgeprune.jobs.protocol import PROTOCOL_HEADER, PROTOCOL_VERSION
from edgeprune.runtime.isolate import child_environment
from edgeprune.schema.jobs import DaemonStatus, Job, JobEvent, JobList, JobRequest, decode_job_event

__all__ = ["DaemonClient", "connect", "find_daemon", "start_daemon", "stop_daemon"]

_TIMEOUT_S = 30.0
_START_S = 60.0
_STOP_S = 30.0
_LOG_BYTES = 1 << 20

T = TypeVar("T")


class _Refusal(msgspec.Struct):
    error: str
    kind: str = "ProtocolError"


class DaemonClient:
    """A `JobsClient` over a unix socket."""

    def __init__(self, path: Path) -> None:
        """Name the socket; nothing is sent before the first call."""
        self._socket = path
        self._is_closed = False
        # Connections are given up before the daemon gives them up: one must not close while it is being used again.
        limits = httpx.Limits(max_connections=None, keepalive_expiry=2.0)
        self._http = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(path), limits=limits),
            base_url="http://edgeprune",
            headers={PROTOCOL_HEADER: str(PROTOCOL_VERSION)},
            timeout=_TIMEOUT_S,
            trust_env=False,
        )

    def status(self) -> DaemonStatus:
        """What the daemon says of itself, and the memory it holds."""
        from edgeprune.runtime.memory import parse_status

        said = self._get("/", DaemonStatus)
        try:
            text = Path(f"/proc/{said.pid}/status").read_text(encoding="ascii", errors="replace")
        except OSError:
            return said
        return replace(said, rss_bytes=parse_status(text).rss_bytes)

    def submit(self, request: JobRequest) -> Job:
        """See `JobsClient.submit`."""
        return self._post("/jobs", msgspec.json.encode(absolute_request(request)))

    def cancel(self, job_id: str) -> Job:
        """See `JobsClient.cancel`."""
        return self._post(f"/jobs/{_quoted(job_id)}/cancel")

    def resume(self, job_id: str) -> Job:
        """See `JobsClient.resume`."""
        return self._post(f"/jobs/{_quoted(job_id)}/resume")

    def jobs(self) -> list[Job]:
        """See `JobsClient.jobs`."""
        return list(self._get("/jobs", JobList).jobs)

    def job(self, job_id: str) -> Job:
        """See `JobsClient.job`."""
        return self._get(f"/jobs/{_quoted(job_id)}", Job)

    def events(self, job_id: str, since: int = 0, follow: bool = True) -> Iterator[JobEvent]:
        """See `JobsClient.events`; raises `ProtocolError` when the daemon goes away in the middle."""
        path = f"/jobs/{_quoted(job_id)}/events"
        parameters = {"since": str(since), "follow": str(int(follow))}
        timeout = httpx.Timeout(_TIMEOUT_S, read=None if follow else _TIMEOUT_S)
        try:
            with self._http.stream("GET", path, params=parameters, timeout=timeout) as answer:
                if answer.status_code != httpx.codes.OK:
                    answer.read()
                    self._check(answer)
                for line in _lines(answer):
                    if self._is_closed:
                        return
                    if line:
                        yield decode_job_event(line)
        except (httpx.HTTPError, msgspec.DecodeError) as error:
            raise self._lost(error) from error

    def result(self, job_id: str) -> bytes:
        """See `JobsClient.result`."""
        return self._ask("GET", f"/jobs/{_quoted(job_id)}/result").content

    def log(self, job_id: str) -> str:
        """See `JobsClient.log`."""
        return self._ask("GET", f"/jobs/{_quoted(job_id)}/log").text

    def close(self) -> None:
        """Close the connections; whoever follows events stops within seconds."""
        self._is_closed = True
        self._http.close()

    def _get(self, path: str, kind: type[T]) -> T:
        return self._decoded(self._ask("GET", path), kind)

    def _post(self, path: str, body: bytes = b"") -> Job:
        return self._decoded(self._ask("POST", path, body), Job)

    def _ask(self, method: str, path: str, body: bytes | None = None) -> httpx.Response:
        try:
            answer = self._http.request(method, path, content=body)
        except httpx.HTTPError as error:
            raise self._lost(error) from error
        self._check(answer)
        return answer

    def _decoded(self, answer: httpx.Response, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(answer.content, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ProtocolError(
                f"What answers on {self._socket} is another version ({error}); stop it with `edgeprune daemon stop`."
            ) from error

    def _check(self, answer: httpx.Response) -> None:
        """Raise what the daemon refused with, as the class it raised.

        Raises:
            EdgePruneError: the daemon refused.
        """
        if answer.is_success:
            return
        try:
            refusal = msgspec.json.decode(answer.content, type=_Refusal)
        except (msgspec.DecodeError, UnicodeDecodeError):
            said = answer.text[:200].strip() or f"status {answer.status_code}"
            raise ProtocolError(f"The daemon on {self._socket} refused the request: {said}") from None
        kind: Any = getattr(errors, refusal.kind, None) if refusal.kind in errors.__all__ else None
        if not (isinstance(kind, type) and issubclass(kind, EdgePruneError)):
            kind = ProtocolError
        raise kind(refusal.error)

    def _lost(self, error: Exception) -> ProtocolError:
        what = str(error) or type(error).__name__
        return ProtocolError(
            f"The daemon on {self._socket} cannot be reached ({what}); `edgeprune daemon start` starts it, its jobs "
            "can be resumed."
        )


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
        client._get("/", DaemonStatus)
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


def _lines(answer: httpx.Response) -> Iterator[bytes]:
    """Whole lines of a stream; `iter_lines` would also split at separators inside JSON strings."""
    rest = b""
    for piece in answer.iter_bytes():
        *whole, rest = (rest + piece).split(b"\n")
        yield from whole


def _quoted(job_id: str) -> str:
    from urllib.parse import quote

    return quote(job_id, safe="") or "-"
