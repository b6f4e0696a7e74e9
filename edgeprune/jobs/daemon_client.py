"""`DaemonClient`: jobs run by the daemon of this user, over its unix socket."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import msgspec
from msgspec.structs import replace

from edgeprune import errors
from edgeprune.errors import EdgePruneError, ProtocolError
from edgeprune.jobs.paths import absolute_request
from edgeprune.jobs.protocol import PROTOCOL_HEADER, PROTOCOL_VERSION
from edgeprune.schema.jobs import DaemonStatus, Job, JobEvent, JobList, JobRequest, decode_job_event

__all__ = ["DaemonClient"]

_TIMEOUT_S = 30.0

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


def _lines(answer: httpx.Response) -> Iterator[bytes]:
    """Whole lines of a stream; `iter_lines` would also split at separators inside JSON strings."""
    rest = b""
    for piece in answer.iter_bytes():
        *whole, rest = (rest + piece).split(b"\n")
        yield from whole


def _quoted(job_id: str) -> str:
    return quote(job_id, safe="") or "-"
