"""OpenAI's request bodies as ours, and our answers as theirs; fields that this server does not know are ignored.

Source: platform.openai.com/docs/api-reference/chat and /completions. What changes the answer and cannot be done here is
refused instead of ignored: several choices, log-probabilities, tools.
"""

import time
import uuid
from typing import Any

import msgspec

from edgeprune.errors import UsageError
from edgeprune.schema.generation import FinishReason, Sampling

__all__ = ["ChatBody", "CompletionBody", "answer", "chunk", "decode_body", "error_body", "usage"]


class _Body(msgspec.Struct, kw_only=True):
    model: str = ""
    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool = False
    n: int = 1
    logprobs: bool | int | None = None

    def sampling(self, *, stops: tuple[str, ...] = ()) -> Sampling:
        """As our record.

        Raises:
            UsageError: a value out of range, or something asked for that is not offered.
        """
        if self.n != 1:
            raise UsageError("n: this server gives one choice; ask again for another.")
        if self.logprobs:
            raise UsageError("logprobs: this server does not give log-probabilities.")
        own = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            max_tokens=256 if self.max_tokens is None else self.max_tokens,
            stop=(*own, *stops),
        )


class ChatBody(_Body, kw_only=True):
    """`/v1/chat/completions`."""

    messages: list[dict[str, Any]]
    max_completion_tokens: int | None = None
    tools: list[Any] | None = None

    def sampling(self, *, stops: tuple[str, ...] = ()) -> Sampling:
        """As our record; `max_completion_tokens` is the newer name of `max_tokens`."""
        if self.tools:
            raise UsageError("tools: this server does not call tools.")
        if not self.messages:
            raise UsageError("messages is empty; give at least one.")
        if self.max_completion_tokens is not None:
            self.max_tokens = self.max_completion_tokens
        return super().sampling(stops=stops)


class CompletionBody(_Body, kw_only=True):
    """`/v1/completions`."""

    prompt: str


def decode_body(raw: bytes, kind: type[_Body]) -> _Body:
    """A request's body.

    Raises:
        UsageError: not JSON, or a field of the wrong type.
    """
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"The request cannot be read: {error}.") from error


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """Counts as OpenAI names them."""
    total = prompt_tokens + completion_tokens
    return {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": total}


def answer(body: _Body, name: str, text: str, reason: FinishReason, counts: dict[str, int]) -> dict[str, Any]:
    """A whole answer."""
    return _envelope(body, name, whole=True) | {
        "choices": [_choice(body, text, reason, is_delta=False)],
        "usage": counts,
    }


def chunk(body: _Body, name: str, identifier: str, text: str, reason: FinishReason | None) -> dict[str, Any]:
    """A piece of a streamed answer."""
    envelope = _envelope(body, name, whole=False) | {"id": identifier}
    return envelope | {"choices": [_choice(body, text, reason, is_delta=True)]}


def error_body(message: str, kind: str = "invalid_request_error") -> dict[str, Any]:
    """An error as clients expect it."""
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def _envelope(body: _Body, name: str, *, whole: bool) -> dict[str, Any]:
    is_chat = isinstance(body, ChatBody)
    kind = "text_completion" if not is_chat else "chat.completion" if whole else "chat.completion.chunk"
    prefix = "chatcmpl" if is_chat else "cmpl"
    return {"id": f"{prefix}-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": name}


def _choice(body: _Body, text: str, reason: FinishReason | None, *, is_delta: bool) -> dict[str, Any]:
    ended = "stop" if reason == "cancelled" else reason
    choice: dict[str, Any] = {"index": 0, "finish_reason": ended, "logprobs": None}
    if not isinstance(body, ChatBody):
        return choice | {"text": text}
    if is_delta:
        return choice | {"delta": {"content": text} if text or reason is None else {}}
    return choice | {"message": {"role": "assistant", "content": text}}
