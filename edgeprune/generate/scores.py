"""Log-probabilities of a text's own tokens and of what follows it, as scoring clients ask for.

    log p(t_i | t_0..i-1) = z_i[t_i] - logsumexp(z_i), z_i the logits after t_0..i-1                      (1)

Takes a decoder at any position; gives one `ScoredText` a prompt. Sums are taken in float64. An end token that is
written counts as a token without text: clients that ask for one token more than they score drop exactly one.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeprune.generate.sampling import Sampler
from edgeprune.runtime.decode import Decoder
from edgeprune.schema.generation import FinishReason, Sampling

__all__ = ["ScoredText", "TokenScore", "score_text"]


class TokenScore(NamedTuple):
    """One token of a text."""

    token: int
    text: str
    """What it adds to the text; empty while a character is not complete."""
    offset: int
    """Characters before it."""
    logprob: float | None
    """Nats; None for the first token, which nothing precedes."""
    tops: dict[int, float] | None
    """Token id -> nats of the most likely tokens in its place, and of itself; None as `logprob`."""


class ScoredText(NamedTuple):
    """A prompt's tokens where they were asked for, and the tokens written after it."""

    text: str
    tokens: tuple[TokenScore, ...]
    finish_reason: FinishReason
    written_count: int


def score_text(
    decoder: Decoder,
    tokenizer: Any,
    ids: Sequence[int],
    *,
    count: int,
    sampling: Sampling,
    top_count: int,
    echo: bool,
    end_tokens: Collection[int],
    is_cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[ScoredText]:
    """Read a prompt, write on, and give both with their log-probabilities; gives nothing when cancelled.

    Args:
        decoder: its position is taken back to 0.
        tokenizer: a `tokenizers.Tokenizer`.
        ids: the prompt, at least one token.
        count: tokens to write; 0 scores the prompt alone.
        sampling: how to choose, and the texts that end it.
        top_count: most likely tokens told of each place.
        echo: whether the prompt is part of the answer.
        end_tokens: ids that end the text.
        is_cancelled: asked before every run of the graph.
    """
    decoder.rewind(0)
    scored: list[TokenScore] = []
    written = _Text(tokenizer)
    if not echo:
        written.skip(ids)
    last: NDArray[np.float32] | None = None
    if echo:
        for piece in decoder.logits(np.asarray(ids)):
            if is_cancelled():
                return
            for row in piece:
                scored.append(written.add(ids[len(scored)], last, top_count))
                last = row
    else:
        last = decoder.prefill(ids)
    assert last is not None
    sampler = Sampler(sampling)
    reason: FinishReason = "length"
    written_count, start = 0, len(written.text)
    text_end: int | None = None
    while written_count < count:
        if is_cancelled():
            return
        token = sampler.choose(last)
        written_count += 1
        if token in end_tokens:
            scored.append(_score(token, "", len(written.text), last, top_count))
            reason = "stop"
            break
        scored.append(written.add(token, last, top_count))
        found = [at for stop in sampling.stop if (at := written.text.find(stop, start)) >= 0]
        if found:
            reason, text_end = "stop", min(found)
            break
        if written_count < count:
            last = decoder.step(token)
    kept = [score for score in scored if text_end is None or score.offset < text_end]
    yield ScoredText(written.text[:text_end], tuple(kept), reason, written_count)


class _Text:
    """Text that grows by a token at a time and stays valid Unicode."""

    def __init__(self, tokenizer: Any) -> None:
        from tokenizers.decoders import DecodeStream

        self._tokenizer, self._kind = tokenizer, DecodeStream
        self._stream = DecodeStream(skip_special_tokens=False)
        self.text = ""

    def skip(self, ids: Sequence[int]) -> None:
        """Go on after a prompt that is not part of the text."""
        self._stream = self._kind(ids=list(ids), skip_special_tokens=False)

    def add(self, token: int, logits: NDArray[np.float32] | None, top_count: int) -> TokenScore:
        """Append a token; `logits` are those before it, None where there are none."""
        offset = len(self.text)
        added = self._stream.step(self._tokenizer, token) or ""
        self.text += added
        return _score(token, added, offset, logits, top_count)


def _score(token: int, text: str, offset: int, logits: NDArray[np.float32] | None, top_count: int) -> TokenScore:
    if logits is None:
        return TokenScore(token, text, offset, None, None)
    values = logits.astype(np.float64)
    highest = values.max()
    values -= highest + np.log(np.exp(values - highest).sum())  # eq. (1)
    tops = {}
    if top_count:
        best = np.argpartition(-values, min(top_count, len(values)) - 1)[:top_count]
        # Ties go to the lowest id, as the greedy choice does.
        tops = {int(index): float(values[index]) for index in sorted(best, key=lambda index: (-values[index], index))}
    tops.setdefault(token, float(values[token]))
    return TokenScore(token, text, offset, float(values[token]), tops)
