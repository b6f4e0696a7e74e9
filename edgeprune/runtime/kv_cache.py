"""Keys and values of the tokens already seen, held in buffers that onnxruntime updates in place.

One buffer `[1, kv_heads, max_tokens, head_dim]` a tensor is bound as past and as present at once. GroupQueryAttention
then writes only the new rows; nothing is copied and nothing grows while decoding. Graphs that concatenate past and
new (`Attention`, or an export without fused attention) give presents that are longer than the buffer: for those the
cache grows by binding each present as the next past.
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import ModelError
from edgeprune.runtime.session import import_onnxruntime

__all__ = ["KeyValueCache", "element_type"]

_PAST = re.compile(r"past_key_values\.(\d+)\.(key|value)")

_ELEMENT_TYPES: dict[str, type[Any]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
}


def element_type(declared: str, *, name: str) -> type[Any]:
    """The numpy type of an input or output.

    Raises:
        ModelError: a type that numpy does not hold.
    """
    if declared not in _ELEMENT_TYPES:
        raise ModelError(f"The graph's {name} has the type {declared}, which EdgePrune cannot feed; export it again.")
    return _ELEMENT_TYPES[declared]


@dataclass(frozen=True)
class _Pair:
    past: str
    present: str
    kv_heads: int
    head_dim: int
    dtype: type[Any]


class KeyValueCache:
    """All past/present pairs of one session.

    While `is_shared`, the buffers never move and `bind` is needed once; otherwise `bind` before and `collect` after
    every run.
    """

    def __init__(self, session: Any, *, max_tokens: int, device: str = "cpu") -> None:
        """Read the pairs from the session's inputs and reserve the buffers (pages are touched when first written)."""
        self._ort = import_onnxruntime()
        self._device = device
        self._pairs = _pairs(session)
        self._max_tokens = max_tokens
        self.is_shared = True
        self._buffers = [self._reserve(pair, max_tokens) for pair in self._pairs]

    @property
    def input_names(self) -> frozenset[str]:
        """The inputs this cache feeds."""
        return frozenset(pair.past for pair in self._pairs)

    @property
    def size_bytes(self) -> int:
        """Bytes of all buffers when full."""
        return sum(
            pair.kv_heads * self._max_tokens * pair.head_dim * np.dtype(pair.dtype).itemsize for pair in self._pairs
        )

    def bind(self, binding: Any) -> None:
        """Bind pasts and presents."""
        for pair, buffer in zip(self._pairs, self._buffers, strict=True):
            binding.bind_ortvalue_input(pair.past, buffer)
            if self.is_shared:
                binding.bind_ortvalue_output(pair.present, buffer)
            else:
                binding.bind_output(pair.present, self._device)

    def grow(self) -> None:
        """Give up sharing, for graphs that concatenate: the cache starts empty again."""
        self.is_shared = False
        self.clear()

    def clear(self) -> None:
        """Forget all tokens."""
        if not self.is_shared:
            self._buffers = [self._reserve(pair, 0) for pair in self._pairs]

    def collect(self, presents: list[Any]) -> None:
        """Take the presents of a run as the next pasts: OrtValues in the order of `bind`."""
        assert len(presents) == len(self._pairs)
        self._buffers = presents

    def truncate(self, length: int) -> None:
        """Keep the first `length` tokens."""
        if self.is_shared:
            return  # later rows are written over before the mask lets them be read
        self._buffers = [
            self._ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(buffer.numpy()[:, :, :length]), self._device, 0)
            for buffer in self._buffers
        ]

    def fill(self, value: float) -> None:
        """Write one number everywhere, to show that nothing stale is read."""
        for buffer in self._buffers:
            buffer.update_inplace(np.full(buffer.shape(), value, dtype=buffer.numpy().dtype))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Copies of the buffers by past name."""
        return {pair.past: np.array(buffer.numpy()) for pair, buffer in zip(self._pairs, self._buffers, strict=True)}

    def _reserve(self, pair: _Pair, length: int) -> Any:
        shape = [1, pair.kv_heads, length, pair.head_dim]
        return self._ort.OrtValue.ortvalue_from_shape_and_type(shape, pair.dtype, self._device, 0)


def _pairs(session: Any) -> tuple[_Pair, ...]:
    outputs = {output.name for output in session.get_outputs()}
    pairs = []
    for entry in session.get_inputs():
        match = _PAST.fullmatch(entry.name)
        if match is None:
            continue
        present = f"present.{match[1]}.{match[2]}"
        if present not in outputs:
            raise ModelError(f"The graph has the input {entry.name} but no output {present}; export it again.")
        shape = entry.shape
        if len(shape) != 4 or not isinstance(shape[1], int) or not isinstance(shape[3], int):
            raise ModelError(f"The graph's {entry.name} has the shape {shape}, not [batch, kv_heads, past, head_dim].")
        pairs.append(_Pair(entry.name, present, shape[1], shape[3], element_type(entry.type, name=entry.name)))
    return tuple(pairs)
