"""The daemon's HTTP interface, for a unix socket.

    GET  /                              DaemonStatus
    POST /jobs                          a JobRequest; 201 and the Job
    GET  /jobs                          JobList
    GET  /jobs/ID                       Job
    POST /jobs/ID/cancel, /jobs/ID/resume
    GET  /jobs/ID/events?since=N&follow=0|1   newline-delimited JSON, until the job is over when following; empty lines
                                              say that the daemon is still there
    GET  /jobs/ID/result, /jobs/ID/log

An error is `{"error": sentence, "kind": class}` with a status of its own. Handlers are short: what takes long happens
in the children.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from edgeprune import errors
from edgeprune.errors import DeviceError, EdgePruneError, ProtocolError, UsageError, describe
from edgeprune.jobs.protocol import PROTOCOL_HEADER, PROTOCOL_VERSION
from edgeprune.jobs.queue import BusyError, JobQueue
from edgeprune.jobs.states import TransitionError
from edgeprune.jobs.store import NoJobError
from edgeprune.schema.jobs import DaemonStatus, JobList, JobRequest, encode_job_event

__all__ = ["MAX_ADDRESS_BYTES", "MAX_BODY_BYTES", "MAX_HEAD_BYTES", "build_app"]

MAX_BODY_BYTES = 1 << 20
MAX_ADDRESS_BYTES = 4_096
MAX_HEAD_BYTES = 16_384

_HEARTBEAT_S = 10.0
"""A stream of events that has nothing to tell sends an empty line this often."""
_HEADER = PROTOCOL_HEADER.lower().encode()

_STATUSES: tuple[tuple[type[EdgePruneError], int], ...] = (
    (NoJobError, 404),
    (TransitionError, 409),
    (BusyError, 429),
    (UsageError, 400),
    (DeviceError, 507),
)
_LARGEST_NUMBER = 1 << 53


class _TooLargeError(UsageError):
    """A body beyond the limit."""


def build_app(queue: JobQueue, status: Callable[[], DaemonStatus]) -> Starlette:
    """The application.

    Args:
        queue: does the work.
        status: what the daemon says of itself.
    """
    requests = msgspec.json.Decoder(JobRequest)

    async def root(request: Request) -> Response:
        return _record(status())

    async def submit(request: Request) -> Response:
        body = await _read(request)
        try:
            asked = requests.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UsageError(f"The request cannot be read: {error}.") from error
        return _record(queue.submit(asked), status_code=201)

    async def listing(request: Request) -> Response:
        return _record(JobList(jobs=tuple(queue.store.jobs())))

    async def one(request: Request) -> Response:
        return _record(queue.store.job(_id(request)))

    async def cancel(request: Request) -> Response:
        return _record(queue.cancel(_id(request)))

    async def resume(request: Request) -> Response:
        return _record(queue.resume(_id(request)))

    async def result(request: Request) -> Response:
        return Response(queue.result(_id(request)), media_type="application/json")

    async def log(request: Request) -> Response:
        return Response(queue.log(_id(request)), media_type="text/plain; charset=utf-8")

    async def events(request: Request) -> Response:
        job_id = _id(request)
        queue.store.job(job_id)
        since = _number(request, "since", largest=_LARGEST_NUMBER)
        follow = _number(request, "follow", largest=1) == 1
        return StreamingResponse(_stream(queue, job_id, since, follow), media_type="application/x-ndjson")

    routes = [
        Route("/", root),
        Route("/jobs", listing, methods=["GET"]),
        Route("/jobs", submit, methods=["POST"]),
        Route("/jobs/{id}", one),
        Route("/jobs/{id}/cancel", cancel, methods=["POST"]),
        Route("/jobs/{id}/resume", resume, methods=["POST"]),
        Route("/jobs/{id}/events", events),
        Route("/jobs/{id}/result", result),
        Route("/jobs/{id}/log", log),
    ]
    handlers: dict[Any, Any] = {
        EdgePruneError: _refused,
        HTTPException: _unknown,
        ClientDisconnect: _left,
        Exception: _failed,
    }
    app = Starlette(routes=routes, exception_handlers=handlers, middleware=[Middleware(_Guard)])
    app.router.redirect_slashes = False
    return app


class _Guard:
    """Refuses long heads, and clients that speak another version; one that names none, such as curl, is believed."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Any) -> Response | None:
        if len(scope["raw_path"]) + len(scope["query_string"]) > MAX_ADDRESS_BYTES:
            return _error(f"The address is longer than {MAX_ADDRESS_BYTES} bytes.", UsageError.__name__, 414)
        if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEAD_BYTES:
            return _error(f"The headers are longer than {MAX_HEAD_BYTES} bytes.", UsageError.__name__, 431)
        spoken = next((value for name, value in scope["headers"] if name == _HEADER), None)
        if spoken is None or spoken == str(PROTOCOL_VERSION).encode():
            return None
        sentence = (
            f"This daemon speaks protocol {PROTOCOL_VERSION}, not {spoken[:20].decode('ascii', 'replace')!r}; stop it "
            "with `edgeprune daemon stop` and it starts again in the version installed."
        )
        return _error(sentence, ProtocolError.__name__, 426)


async def _stream(queue: JobQueue, job_id: str, since: int, follow: bool) -> AsyncIterator[bytes]:
    changed = asyncio.Event()
    loop = asyncio.get_running_loop()
    end_listening = queue.listen(lambda: loop.call_soon_threadsafe(changed.set))
    try:
        while True:
            changed.clear()
            # Asked before the events: what ends a job is told before the job is over.
            is_over = queue.is_closing or queue.store.job(job_id).is_over
            batch = queue.store.events(job_id, since)
            if batch:
                yield b"".join(encode_job_event(entry) + b"\n" for entry in batch)
                since = batch[-1].sequence
            elif is_over or not follow:
                return
            else:
                try:
                    await asyncio.wait_for(changed.wait(), _HEARTBEAT_S)
                except (TimeoutError, asyncio.TimeoutError):
                    yield b"\n"  # a client that is gone shows, and one that was closed wakes up
    finally:
        end_listening()


async def _read(request: Request) -> bytes:
    parts = bytearray()
    async for part in request.stream():
        parts += part
        if len(parts) > MAX_BODY_BYTES:
            raise _TooLargeError(f"The request is larger than {MAX_BODY_BYTES >> 20} MiB; shorten it.")
    return bytes(parts)


def _id(request: Request) -> str:
    return str(request.path_params["id"])


def _number(request: Request, name: str, *, largest: int) -> int:
    text = request.query_params.get(name, "0")
    if not (text.isascii() and text.isdigit() and len(text) < 18 and int(text) <= largest):
        raise UsageError(f"{name}={text[:40]!r} is not a number from 0 to {largest}.")
    return int(text)


def _record(record: Any, *, status_code: int = 200) -> Response:
    return Response(msgspec.json.encode(record), status_code=status_code, media_type="application/json")


def _error(sentence: str, kind: str, status_code: int) -> Response:
    return _record({"error": sentence, "kind": kind}, status_code=status_code)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, EdgePruneError)
    known = next(kind.__name__ for kind in type(error).__mro__ if kind.__name__ in errors.__all__)
    if isinstance(error, _TooLargeError):
        return _error(str(error), known, 413)
    status_code = next((code for kind, code in _STATUSES if isinstance(error, kind)), 500)
    return _error(str(error), known, status_code)


async def _unknown(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path[:100]
    sentence = (
        f"{request.method[:20]} is not offered for {path!r}."
        if error.status_code == 405
        else f"There is nothing at {path!r}; jobs are at /jobs."
    )
    return _error(sentence, UsageError.__name__, error.status_code)


async def _failed(request: Request, error: Exception) -> Response:
    return _error(describe(error)[0], DeviceError.__name__, 500)


async def _left(request: Request, error: Exception) -> Response:
    return Response(status_code=499)
