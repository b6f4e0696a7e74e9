"""Running a decoder graph token by token in plain onnxruntime: prefill, step, and full logits for scoring.

Takes a session whose inputs are `input_ids`, optionally `attention_mask` and `position_ids`, and
`past_key_values.<i>.key/value`, and whose outputs are `logits` and `present.<i>.key/value` (the names optimum and
onnxruntime-genai load). Everything is bound once and only what changes is bound again: for small models the time per
token is mostly what is done around the graph.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import ModelError, UsageError
from edgeprune.runtime.kv_cache import KeyValueCache, element_type
from edgeprune.runtime.session import CPU_PROVIDER, describe_failure

__all__ = ["Decoder"]

_CUDA_PROVIDERS = ("CUDAExecutionProvider", "TensorrtExecutionProvider")


class Decoder:
    """A position in a text, and the logits of what comes next.

    `session` is what `open_session` gives; `max_tokens` is the longest text it will see; prompts are fed in pieces of
    at most `prefill_chunk_tokens`, which bounds the memory of activations.
    """

    def __init__(self, session: Any, *, max_tokens: int, prefill_chunk_tokens: int) -> None:
        """Reserve the cache and the fixed inputs.

        Raises:
            ModelError: the graph's inputs and outputs are not those of a decoder.
        """
        if max_tokens < 1 or prefill_chunk_tokens < 1:
            raise UsageError(f"A decoder needs room for tokens, not {max_tokens} in pieces of {prefill_chunk_tokens}.")
        self._session = session
        self._binding = session.io_binding()
        self._max_tokens = max_tokens
        self._chunk = min(prefill_chunk_tokens, max_tokens)
        self._is_cpu = session.get_providers()[0] == CPU_PROVIDER
        device = "cuda" if session.get_providers()[0] in _CUDA_PROVIDERS else "cpu"
        self._cache = KeyValueCache(session, max_tokens=max_tokens, device=device)
        self._fixed = _fixed_inputs(session, self._cache.input_names, max_tokens)
        self._logits_dtype, self._vocab_size, self.is_last_only = _logits_entry(session)
        rows = 1 if self.is_last_only else self._chunk
        self._logits = np.empty((rows, self._vocab_size), dtype=self._logits_dtype)
        self._token_buffer = np.zeros(self._chunk, dtype=self._fixed["input_ids"].dtype)
        self._bound_rows = 0
        self._has_run = False
        self.position = 0
        self._cache.bind(self._binding)

    @property
    def vocab_size(self) -> int:
        """Width of the logits."""
        return self._vocab_size

    @property
    def is_cache_shared(self) -> bool:
        """Whether the cache is updated in place; known after the first run."""
        return self._cache.is_shared

    @property
    def cache(self) -> KeyValueCache:
        """The cache, to be looked at."""
        return self._cache

    def reset(self) -> None:
        """Forget all tokens."""
        self.position = 0
        self._cache.clear()
        self._bound_rows = 0

    def rewind(self, position: int) -> None:
        """Go back to an earlier position; the tokens after it are forgotten."""
        if not 0 <= position <= self.position:
            raise UsageError(f"Cannot go from position {self.position} back to {position}.")
        self._cache.truncate(position)
        self.position = position
        self._bound_rows = 0

    def prefill(self, tokens: Sequence[int] | NDArray[Any]) -> NDArray[np.float32]:
        """Feed a prompt at the current position; gives the logits [vocab] after its last token."""
        if len(tokens) == 0:
            raise UsageError("There is no token to feed; give a prompt of at least one token.")
        for piece in self._pieces(tokens, self._chunk):
            logits = self._run(piece)
        return _float32(logits[-1])

    def step(self, token: int) -> NDArray[np.float32]:
        """Feed one token; gives the logits [vocab] after it."""
        self._token_buffer[0] = token
        return _float32(self._run(self._token_buffer[:1])[-1])

    def logits(self, tokens: Sequence[int] | NDArray[Any]) -> Iterator[NDArray[np.float32]]:
        """Feed tokens; gives the logits after each, [n, vocab] a piece."""
        for piece in self._pieces(tokens, 1 if self.is_last_only else self._chunk):
            yield _float32(self._run(piece))

    def _pieces(self, tokens: Sequence[int] | NDArray[Any], size: int) -> Iterator[NDArray[Any]]:
        array = np.asarray(tokens)
        for start in range(0, len(array), size):
            piece = array[start : start + size]
            self._token_buffer[: len(piece)] = piece
            yield self._token_buffer[: len(piece)]

    def _run(self, tokens: NDArray[Any]) -> NDArray[Any]:
        """One run of the graph; `tokens` is a view of the token buffer. Logits are a view, valid until the next run."""
        count = len(tokens)
        end = self.position + count
        if end > self._max_tokens:
            raise UsageError(
                f"The text has {end} tokens or more and the decoder was opened for {self._max_tokens}; "
                "shorten it or open the decoder for a longer context."
            )
        self._bind(count, end)
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # onnxruntime's exceptions share no base below Exception
            if self._has_run or not self._cache.is_shared:
                raise describe_failure(error) from error
            # Sharing refused by the shapes: the graph concatenates past and new. Nothing was seen yet, begin again.
            self._cache.grow()
            self._bound_rows = 0
            return self._run(tokens)
        if not self._cache.is_shared:
            # In the order they were first bound: the cache's at the start, then the logits.
            self._cache.collect(self._binding.get_outputs()[:-1])
        self._has_run = True
        self.position = end
        return self._logits[: 1 if self.is_last_only else count]

    def _bind(self, count: int, end: int) -> None:
        binding = self._binding
        if count != self._bound_rows or not self._is_cpu:
            rows = 1 if self.is_last_only else count
            self._bind_input("input_ids", self._token_buffer, count)
            shape = [1, rows, self._vocab_size]
            binding.bind_output("logits", "cpu", 0, self._logits_dtype, shape, self._logits.ctypes.data)
            self._bound_rows = count
        if "attention_mask" in self._fixed:
            self._bind_input("attention_mask", self._fixed["attention_mask"], end)
        if "position_ids" in self._fixed:
            self._bind_input("position_ids", self._fixed["position_ids"][self.position :], count)
        if not self._cache.is_shared:
            self._cache.bind(binding)

    def _bind_input(self, name: str, array: NDArray[Any], count: int) -> None:
        self._binding.bind_input(name, "cpu", 0, array.dtype.type, [1, count], array.ctypes.data)


def _float32(logits: NDArray[Any]) -> NDArray[np.float32]:
    """A copy that later runs do not write over."""
    copy: NDArray[np.float32] = logits.astype(np.float32)
    return copy


def _fixed_inputs(session: Any, cache_names: frozenset[str], max_tokens: int) -> dict[str, NDArray[Any]]:
    """The arrays that the small inputs are slices of: all ones, and 0, 1, 2, ..."""
    fixed: dict[str, NDArray[Any]] = {}
    for entry in session.get_inputs():
        if entry.name in cache_names:
            continue
        dtype = element_type(entry.type, name=entry.name)
        if entry.name in ("input_ids", "position_ids"):
            fixed[entry.name] = np.arange(max_tokens, dtype=dtype)
        elif entry.name == "attention_mask":
            fixed[entry.name] = np.ones(max_tokens, dtype=dtype)
        else:
            raise ModelError(f"The graph asks for the input {entry.name}, which no decoder has; export it again.")
    if "input_ids" not in fixed:
        raise ModelError("The graph has no input input_ids; it is not a decoder.")
    return fixed


def _logits_entry(session: Any) -> tuple[type[Any], int, bool]:
    """Type of the logits, the vocabulary's size, and whether only the last position is given."""
    for output in session.get_outputs():
        if output.name == "logits":
            if len(output.shape) != 3 or not isinstance(output.shape[2], int):
                raise ModelError(f"The graph's logits have the shape {output.shape}, not [batch, tokens, vocabulary].")
            return element_type(output.type, name="logits"), output.shape[2], output.shape[1] == 1
    raise ModelError("The graph has no output logits; it is not a decoder.")
