"""Text from a bundle on this device; needs onnxruntime and tokenizers, no torch."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeprune.errors import UsageError
from edgeprune.schema.generation import GeneratedText, Sampling

if TYPE_CHECKING:
    from edgeprune.pipeline.generate import OpenWriter

__all__ = ["Conversation", "generate", "serve"]


class Conversation:
    """A bundle opened to talk to; remembers what was said."""

    def __init__(self, bundle: Path, *, execution_provider: str = "cpu", thread_count: int | None = None) -> None:
        """Verify and open the bundle."""
        from edgeprune.pipeline.generate import open_writer

        self._open: OpenWriter = open_writer(bundle, execution_provider=execution_provider, thread_count=thread_count)
        self.messages: list[dict[str, Any]] = []
        """`role` and `content`, in order."""

    @property
    def has_template(self) -> bool:
        """Whether the model was taught a chat format; without one a plain transcript stands in."""
        return self._open.template.exists

    def say(self, text: str, sampling: Sampling, *, told: Callable[[str], None] = lambda piece: None) -> GeneratedText:
        """One turn; `told` gets the answer piece by piece. A turn that is refused is forgotten.

        Raises:
            UsageError: the conversation no longer fits the context.
        """
        from msgspec.structs import replace

        messages = [*self.messages, {"role": "user", "content": text}]
        prompt, stops = self._open.conversation(messages)
        written = self._open.writer.write(prompt, replace(sampling, stop=(*sampling.stop, *stops)), told=told)
        self.messages = [*messages, {"role": "assistant", "content": written.text}]
        return written


def generate(
    bundle: Path,
    prompt: str,
    sampling: Sampling,
    *,
    execution_provider: str = "cpu",
    thread_count: int | None = None,
    told: Callable[[str], None] = lambda piece: None,
) -> GeneratedText:
    """Continue a prompt; `told` gets the text piece by piece.

    Raises:
        UsageError: an empty prompt, or one that fills the context.
        ModelError: the bundle is damaged.
    """
    from edgeprune.pipeline.generate import open_writer

    opened = open_writer(bundle, execution_provider=execution_provider, thread_count=thread_count)
    return opened.writer.write(prompt, sampling, told=told)


def serve(
    bundle: Path,
    *,
    port: int | None = None,
    socket_path: Path | None = None,
    execution_provider: str = "cpu",
    thread_count: int | None = None,
    ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Answer OpenAI's completions and chat completions until interrupted, on loopback or a unix socket.

    Args:
        bundle: to serve.
        port: on 127.0.0.1; 0 takes a free one, None 8080 unless a socket is given.
        socket_path: of a unix socket, mode 0600.
        execution_provider: `cpu` or `cuda`.
        thread_count: None takes the usable cores.
        ready: told the address before the first request is taken.

    Raises:
        UsageError: both a port and a socket, or a socket that cannot be made.
        DeviceError: the port is taken.
    """
    if port is not None and socket_path is not None:
        raise UsageError("Give --port or --socket, not both.")
    from edgeprune.pipeline.generate import open_writer

    opened = open_writer(bundle, execution_provider=execution_provider, thread_count=thread_count)
    with contextlib.closing(_listen(port, socket_path)) as listening:
        try:
            _serve(opened, listening, ready, socket_path)
        finally:
            if socket_path is not None:
                socket_path.unlink(missing_ok=True)


def _listen(port: int | None, socket_path: Path | None) -> Any:
    from edgeprune.generate.listen import loopback_socket, unix_socket

    return loopback_socket(8080 if port is None else port) if socket_path is None else unix_socket(socket_path)


def _serve(opened: "OpenWriter", listening: Any, ready: Callable[[str], None], socket_path: Path | None) -> None:
    import uvicorn

    from edgeprune.generate.server import build_app

    app = build_app(opened.writer, opened.conversation, name=opened.name)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off"))
    ready(f"unix:{socket_path}" if socket_path is not None else f"http://127.0.0.1:{listening.getsockname()[1]}")
    server.run(sockets=[listening])
