"""How many UTF-8 bytes of text each token stands for, which bits-per-byte divides by."""

import json

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

__all__ = ["is_byte_level", "token_byte_lengths"]


def is_byte_level(tokenizer_json: dict[str, object]) -> bool:
    """Whether tokens are spelled in the byte-level alphabet, one character a byte (GPT-2, Llama 3, Qwen)."""
    parts = [tokenizer_json.get("pre_tokenizer"), tokenizer_json.get("decoder")]
    return '"ByteLevel"' in json.dumps(parts)


def token_byte_lengths(tokenizer: Tokenizer) -> NDArray[np.int64]:
    """[vocab] int64: bytes of each token; special tokens count their own spelling.

    Exact for byte-level vocabularies; for others the word mark is one space and `<0x0A>` one byte.
    """
    tokenizer_json = json.loads(tokenizer.to_str())
    byte_level = is_byte_level(tokenizer_json)
    added = {token["id"]: token["content"] for token in tokenizer_json.get("added_tokens", [])}
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    lengths = np.zeros(max(vocabulary.values()) + 1, dtype=np.int64)
    for token, index in vocabulary.items():
        if index in added:
            lengths[index] = len(added[index].encode())
        elif byte_level:
            lengths[index] = len(token)
        elif len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            lengths[index] = 1
        else:
            lengths[index] = len(token.replace("\u2581", " ").encode())
    return lengths
