"""`Writer`: a bundle opened to write text, piece by piece.

Takes the bundle's graph and `tokenizer.json`; gives text that is valid Unicode at every piece (tokens that end inside a
character are held back by the tokenizers library's own stream). What a new prompt shares with the last text stays in
the key-value cache, so a conversation is not read again at every turn.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from edgeprune.artifacts import check_tokenizer_size
from edgeprune.errors import ModelError, RuntimeUnavailableError, UsageError
from edgeprune.generate.sampling import Sampler
from edgeprune.generate.scores import ScoredText, score_text
from edgeprune.generate.stop_texts import StopTexts
from edgeprune.runtime.decode import Decoder
from edgeprune.schema.generation import FinishReason, GeneratedText, Piece, Sampling

__all__ = ["Writer", "load_tokenizer"]


def load_tokenizer(path: Path) -> Any:
    """The `tokenizers.Tokenizer` of a file.

    Raises:
        RuntimeUnavailableError: the tokenizers library is not installed.
        ModelError: the file is missing or not a tokenizer.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise RuntimeUnavailableError(
            "Writing text needs the tokenizers library; install it with: pip install 'edgeprune[chat]'."
        ) from error
    if not path.is_file():
        raise ModelError(f"{path} is missing, so no text can be read or written; export the bundle again.")
    check_tokenizer_size(path)
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise ModelError(f"{path} is not a tokenizer ({error}); export the bundle again.") from error


class Writer:
    """One decoder and its tokenizer; one text at a time."""

    def __init__(self, decoder: Decoder, tokenizer: Any, *, end_tokens: Sequence[int], context_tokens: int) -> None:
        """Take an opened decoder.

        Args:
            decoder: at position 0.
            tokenizer: a `tokenizers.Tokenizer`.
            end_tokens: ids that end an answer.
            context_tokens: longest text, prompt included.
        """
        self._decoder, self._tokenizer = decoder, tokenizer
        self._end_tokens = frozenset(end_tokens)
        self._context = context_tokens
        self._read: list[int] = []

    def encode(self, prompt: str) -> list[int]:
        """Token ids of a prompt.

        Raises:
            UsageError: nothing to go on from, or no room left in the context.
        """
        return self.ids(prompt)

    def ids(self, prompt: str | list[int], *, room: int = 1) -> list[int]:
        """Token ids of a prompt, or those given, where they can be read and `room` tokens still fit after them.

        Raises:
            UsageError: none, one that is not in the vocabulary, or no room left in the context.
        """
        ids: list[int] = prompt  # type: ignore[assignment]
        if isinstance(prompt, str):
            ids = self._tokenizer.encode(prompt, add_special_tokens=False).ids
        if not ids:
            raise UsageError("The prompt is empty; give some text to go on from.")
        vocab_size = self._decoder.vocab_size
        if strange := [token for token in ids if not 0 <= token < vocab_size]:
            raise UsageError(f"The prompt has token {strange[0]}, but the bundle's tokens are 0 to {vocab_size - 1}.")
        if len(ids) + room > self._context:
            raise UsageError(
                f"The prompt has {len(ids)} tokens and the bundle was made for {self._context} with the answer; "
                "shorten it, or export with a longer --context."
            )
        return ids

    def stream(
        self, ids: Sequence[int], sampling: Sampling, *, is_cancelled: Callable[[], bool] = lambda: False
    ) -> Iterator[tuple[int, Piece]]:
        """Go on from a prompt; gives the number of tokens so far and each piece of text.

        Args:
            ids: from `encode`.
            sampling: how to choose, and when to end.
            is_cancelled: asked before every token.
        """
        from tokenizers.decoders import DecodeStream

        sampler, stops = Sampler(sampling), StopTexts(sampling.stop)
        # The prompt's last tokens tell whether the first word needs its space.
        text = DecodeStream(ids=list(ids), skip_special_tokens=True)
        logits = self._prefill(ids)
        reason: FinishReason = "length"
        count = 0
        limit = min(sampling.max_tokens, self._context - len(ids))
        while count < limit:
            if is_cancelled():
                reason = "cancelled"
                break
            count += 1
            token = sampler.choose(logits)
            if token in self._end_tokens:
                reason = "stop"
                break
            shown = stops.feed(text.step(self._tokenizer, token) or "")
            if shown:
                yield count, Piece(text=shown)
            if stops.is_hit:
                reason = "stop"
                break
            if count < limit:
                logits = self._decoder.step(token)
                self._read.append(token)
        yield count, Piece(text=stops.flush(), finish_reason=reason)

    def score(
        self,
        ids: Sequence[int],
        sampling: Sampling,
        *,
        count: int,
        top_count: int,
        echo: bool,
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> Iterator[ScoredText]:
        """A prompt and at most `count` tokens after it with their log-probabilities; see `scores.score_text`."""
        self._read = []
        return score_text(
            self._decoder,
            self._tokenizer,
            ids,
            count=min(count, self._context - len(ids)),
            sampling=sampling,
            top_count=top_count,
            echo=echo,
            end_tokens=self._end_tokens,
            is_cancelled=is_cancelled,
        )

    def token_name(self, token: int) -> str:
        """A token's own text; where it is no whole character, `token_id:<id>` as other servers write it."""
        text: str = self._tokenizer.decode([token], skip_special_tokens=False)
        return text if text and "\ufffd" not in text else f"token_id:{token}"

    def write(
        self, prompt: str, sampling: Sampling, *, told: Callable[[str], None] = lambda text: None
    ) -> GeneratedText:
        """A whole answer; `told` gets each piece as it comes."""
        ids = self.encode(prompt)
        start_s = time.perf_counter()
        first_s: float | None = None
        parts, count, reason = [], 0, "length"
        for count, piece in self.stream(ids, sampling):  # noqa: B007
            if first_s is None:
                first_s = time.perf_counter()
            parts.append(piece.text)
            told(piece.text)
            reason = piece.finish_reason or reason
        end_s = time.perf_counter()
        first_s = end_s if first_s is None else first_s
        return GeneratedText(
            prompt=prompt,
            text="".join(parts),
            finish_reason=reason,  # type: ignore[arg-type]
            prompt_tokens=len(ids),
            completion_tokens=count,
            prefill_s=first_s - start_s,
            decode_s=(end_s - first_s) / (count - 1) if count > 1 else None,
        )

    def _prefill(self, ids: Sequence[int]) -> Any:
        """Logits after the prompt; what the last text shares with it is not read again."""
        shared = 0
        for mine, other in zip(self._read, ids[:-1], strict=False):
            if mine != other:
                break
            shared += 1
        self._decoder.rewind(shared)
        # A run that fails leaves the cache in between: then nothing of it counts as read.
        self._read = []
        logits = self._decoder.prefill(ids[shared:])
        self._read = list(ids)
        return logits
