"""Endless training windows, tokenized as they are generated."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from edgeprune.demo.tokenizer import END_ID

__all__ = ["encode_documents", "training_windows"]

_CHUNK_DOCUMENTS = 256


def encode_documents(tokenizer: Tokenizer, texts: list[str]) -> list[int]:
    """The documents' tokens in one row, an end token before each."""
    tokens: list[int] = []
    for encoding in tokenizer.encode_batch(texts):
        tokens.append(END_ID)
        tokens.extend(encoding.ids)
    return tokens


def training_windows(
    tokenizer: Tokenizer, documents: Iterable[tuple[str, str]], *, batch_size: int, window_tokens: int
) -> Iterator[NDArray[np.int64]]:
    """Batches [batch_size, window_tokens + 1] of consecutive tokens; no token is a target twice."""
    source = iter(documents)
    span = window_tokens
    tokens: list[int] = []
    while True:
        while len(tokens) < batch_size * span + 1:
            tokens += encode_documents(tokenizer, [next(source)[1] for _ in range(_CHUNK_DOCUMENTS)])
        rows = [tokens[row * span : (row + 1) * span + 1] for row in range(batch_size)]
        del tokens[: batch_size * span]
        yield np.array(rows, dtype=np.int64)
