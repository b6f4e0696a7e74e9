"""OpenAI's request bodies as ours, and our answers as theirs; fields that this server does not know are ignored.

Source: platform.openai.com/docs/api-reference/chat and /completions. What changes the answer and cannot be done here is
refused instead of ignored: several choices, tools, log-probabilities of chats and of streams.
"""

import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from edgeprune.errors import UsageError
from edgeprune.generate.scores import ScoredText
from edgeprune.schema.generation import FinishReason, Sampling

__all__ = ["ChatBody", "CompletionBody", "answer", "chunk", "decode_body", "error_body", "scored_answer", "usage"]


MOST_PROMPTS = 64
"""In one request."""
MOST_TOPS = 20
"""OpenAI gives 5, other servers 20."""


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
        if self.logprobs:
            raise UsageError("logprobs: this server gives log-probabilities at /v1/completions alone.")
        if self.max_completion_tokens is not None:
            self.max_tokens = self.max_completion_tokens
        return super().sampling(stops=stops)


class CompletionBody(_Body, kw_only=True):
    """`/v1/completions`."""

    prompt: str | list[str | int | list[int]]
    """A text or its token ids, or several of either; several are answered one after another."""
    echo: bool = False

    @property
    def prompts(self) -> Sequence[str | list[int]]:
        """One a choice.

        Raises:
            UsageError: token ids beside whole prompts.
        """
        if isinstance(self.prompt, str):
            return [self.prompt]
        ids = [item for item in self.prompt if isinstance(item, int)]
        if ids and len(ids) == len(self.prompt):
            return [ids]
        if ids:
            raise UsageError("prompt mixes token ids with whole prompts; give one kind.")
        return [item for item in self.prompt if not isinstance(item, int)]

    @property
    def is_scored(self) -> bool:
        """Whether the answer is more than the text that follows one prompt."""
        return self.echo or self.top_count is not None or not isinstance(self.prompt, str)

    @property
    def top_count(self) -> int | None:
        """Most likely tokens to tell of each place; None tells no log-probabilities."""
        return None if self.logprobs is None or self.logprobs is False else int(self.logprobs)

    def sampling(self, *, stops: tuple[str, ...] = ()) -> Sampling:
        """As our record; what is written when `max_tokens` is 0 is nothing, which is asked for with `echo`."""
        if self.top_count is not None and not 0 <= self.top_count <= MOST_TOPS:
            raise UsageError(f"logprobs {self.top_count} must lie in 0..{MOST_TOPS}.")
        if self.is_scored and self.stream:
            raise UsageError("stream: echo, logprobs, token ids and several prompts are answered whole; leave it out.")
        if not 1 <= len(self.prompts) <= MOST_PROMPTS:
            raise UsageError(f"prompt has {len(self.prompts)} prompts; give 1 to {MOST_PROMPTS} in one request.")
        if self.max_tokens == 0 and self.echo:
            self.max_tokens = 1
            read, self.max_tokens = super().sampling(stops=stops), 0
            return read
        return super().sampling(stops=stops)


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


def scored_answer(
    body: CompletionBody, name: str, texts: Sequence[ScoredText], counts: dict[str, int], shown: Callable[[int], str]
) -> dict[str, Any]:
    """A whole answer of one choice a prompt; `shown` names a token among the most likely ones."""
    choices = []
    for index, text in enumerate(texts):
        choice = _choice(body, text.text, text.finish_reason, is_delta=False) | {"index": index}
        choices.append(choice | {"logprobs": None if body.top_count is None else _logprobs(text, shown)})
    return _envelope(body, name, whole=True) | {"choices": choices, "usage": counts}


def _logprobs(text: ScoredText, shown: Callable[[int], str]) -> dict[str, Any]:
    tops = [None if score.tops is None else _named(score.tops, shown) for score in text.tokens]
    return {
        "tokens": [score.text for score in text.tokens],
        "token_logprobs": [score.logprob for score in text.tokens],
        "top_logprobs": tops,
        "text_offset": [score.offset for score in text.tokens],
    }


def _named(tops: dict[int, float], shown: Callable[[int], str]) -> dict[str, float]:
    """Names may be shared by two tokens: the less likely one is then told by its id."""
    named: dict[str, float] = {}
    for token, logprob in tops.items():
        name = shown(token)
        named[f"token_id:{token}" if name in named else name] = logprob
    return named


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
