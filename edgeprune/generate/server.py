"""An OpenAI-compatible server for one bundle, on loopback or a unix socket.

One text is written at a time; the others wait in a queue of bounded length. A client that leaves, before or while its
text is written, frees the place. Requests name a host other than this one are refused, so that a page in a browser
cannot reach the model through a name that resolves to loopback.
"""

import asyncio
import json
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import anyio
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from edgeprune.errors import EdgePruneError, UsageError
from edgeprune.generate.requests import (
    ChatBody,
    CompletionBody,
    answer,
    chunk,
    decode_body,
    error_body,
    scored_answer,
    usage,
)
from edgeprune.generate.scores import ScoredText
from edgeprune.generate.writer import Writer
from edgeprune.schema.generation import Piece, Sampling

__all__ = ["Conversation", "build_app"]

T = TypeVar("T")

MAX_BODY_BYTES = 1 << 20
MAX_WAITING = 16
"""Requests that wait; more are answered with 503 at once."""
HOSTS = ["localhost", "127.0.0.1", "[::1]", "edgeprune"]
"""`edgeprune` is what clients of the unix socket may call it."""


class Conversation(Protocol):
    """How messages become a prompt."""

    def __call__(self, messages: list[dict[str, Any]]) -> tuple[str, tuple[str, ...]]:
        """The prompt, and texts that end the answer."""
        ...


class _BusyError(Exception):
    pass


class _Queue:
    """One writer's turns, in the order of arrival."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="edgeprune-write")

    async def stream(
        self, work: Callable[[Callable[[], bool]], Iterable[T]], has_left: Callable[[], Awaitable[bool]]
    ) -> AsyncIterator[T]:
        """What `work` gives, as it comes; it is told whether the reader went away."""
        if self._waiting >= MAX_WAITING:
            raise _BusyError
        self._waiting += 1
        try:
            await self._turn.acquire()
        finally:
            self._waiting -= 1
        cancelled = threading.Event()
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[T | BaseException | None] = asyncio.Queue()

        def write() -> None:
            try:
                for item in work(cancelled.is_set):
                    loop.call_soon_threadsafe(pieces.put_nowait, item)
                loop.call_soon_threadsafe(pieces.put_nowait, None)
            except BaseException as error:
                loop.call_soon_threadsafe(pieces.put_nowait, error)

        running: asyncio.Future[None] | None = None
        try:
            if await has_left():
                return
            running = loop.run_in_executor(self._thread, write)
            # The next turn begins when the thread has ended, even where this task is cancelled and may wait no more.
            running.add_done_callback(lambda _: self._turn.release())
            while True:
                try:
                    item = await asyncio.wait_for(pieces.get(), timeout=0.5)
                except (TimeoutError, asyncio.TimeoutError):
                    if await has_left():
                        return
                    continue
                if item is None or isinstance(item, BaseException):
                    await running
                    if item is not None:
                        raise item
                    return
                yield item
                if await has_left():
                    return
        finally:
            cancelled.set()
            if running is None:
                self._turn.release()


def build_app(writer: Writer, conversation: Conversation, *, name: str) -> Starlette:
    """The application.

    Args:
        writer: of the bundle.
        conversation: renders messages.
        name: listed as the model.
    """
    queue = _Queue(writer)

    async def completions(request: Request) -> Response:
        body = decode_body(await _read(request), CompletionBody)
        assert isinstance(body, CompletionBody)
        sampling = body.sampling()
        if body.is_scored:
            return await _respond_scored(request, queue, body, sampling, name)
        assert isinstance(body.prompt, str)
        return await _respond(request, queue, body, body.prompt, sampling, name)

    async def chat(request: Request) -> Response:
        body = decode_body(await _read(request), ChatBody)
        assert isinstance(body, ChatBody)
        prompt, stops = conversation(body.messages)
        return await _respond(request, queue, body, prompt, body.sampling(stops=stops), name)

    async def models(request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": name, "object": "model", "owned_by": "edgeprune"}]})

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    return Starlette(
        routes=[
            Route("/v1/chat/completions", chat, methods=["POST"]),
            Route("/v1/completions", completions, methods=["POST"]),
            Route("/v1/models", models),
            Route("/health", health),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)],
        exception_handlers={EdgePruneError: _refused, _BusyError: _busy, ClientDisconnect: _left},
    )


async def _read(request: Request) -> bytes:
    parts = bytearray()
    async for part in request.stream():
        parts += part
        if len(parts) > MAX_BODY_BYTES:
            raise UsageError(f"The request is larger than {MAX_BODY_BYTES >> 20} MiB; shorten it.")
    return bytes(parts)


async def _respond(request: Request, queue: _Queue, body: Any, prompt: str, sampling: Sampling, name: str) -> Response:
    ids = queue.writer.encode(prompt)

    def work(is_cancelled: Callable[[], bool]) -> Iterable[tuple[int, Piece]]:
        return queue.writer.stream(ids, sampling, is_cancelled=is_cancelled)

    stream = queue.stream(work, request.is_disconnected)
    if body.stream:
        # The first piece is waited for here: what refuses a request is then a status, not a broken stream.
        first = await anext(stream, None)
        identifier = f"edgeprune-{uuid.uuid4().hex}"
        return _Stream(
            _events(first, stream, lambda piece: chunk(body, name, identifier, piece.text, piece.finish_reason)),
            media_type="text/event-stream",
        )
    texts, count = [], 0
    reason = None
    async for count, piece in stream:  # noqa: B007
        texts.append(piece.text)
        reason = piece.finish_reason or reason
    if reason is None:
        return _gone()
    return JSONResponse(answer(body, name, "".join(texts), reason, usage(len(ids), count)))


async def _respond_scored(
    request: Request, queue: _Queue, body: CompletionBody, sampling: Sampling, name: str
) -> Response:
    writer = queue.writer
    count = sampling.max_tokens if body.max_tokens is None else body.max_tokens
    prompts = [writer.ids(prompt, room=min(1, count)) for prompt in body.prompts]

    def work(is_cancelled: Callable[[], bool]) -> Iterable[ScoredText]:
        for ids in prompts:
            yield from writer.score(
                ids, sampling, count=count, top_count=body.top_count or 0, echo=body.echo, is_cancelled=is_cancelled
            )

    texts = [text async for text in queue.stream(work, request.is_disconnected)]
    if len(texts) < len(prompts):
        return _gone()
    counts = usage(sum(len(ids) for ids in prompts), sum(text.written_count for text in texts))
    return JSONResponse(scored_answer(body, name, texts, counts, writer.token_name))


class _Stream(StreamingResponse):
    """Ends what it streams from also when the client leaves in the middle."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await self.body_iterator.aclose()  # type: ignore[attr-defined]


async def _events(
    first: tuple[int, Piece] | None,
    stream: AsyncIterator[tuple[int, Piece]],
    shown: Callable[[Piece], dict[str, Any]],
) -> AsyncIterator[bytes]:
    try:
        if first is not None:
            yield _event(shown(first[1]))
            async for _, piece in stream:
                yield _event(shown(piece))
            yield b"data: [DONE]\n\n"
    except EdgePruneError as error:
        yield _event(error_body(str(error), "server_error"))
    finally:
        await stream.aclose()  # type: ignore[attr-defined]


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(content, ensure_ascii=False).encode() + b"\n\n"


async def _refused(request: Request, error: Exception) -> Response:
    is_users = isinstance(error, UsageError)
    kind = "invalid_request_error" if is_users else "server_error"
    return JSONResponse(error_body(str(error), kind), status_code=400 if is_users else 500)


async def _busy(request: Request, error: Exception) -> Response:
    message = f"{MAX_WAITING} requests are waiting already; try again later."
    return JSONResponse(error_body(message, "server_error"), status_code=503, headers={"Retry-After": "5"})


async def _left(request: Request, error: Exception) -> Response:
    return _gone()


def _gone() -> Response:
    return Response(status_code=499)
