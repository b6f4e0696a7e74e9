"""What cheap methods need for the demo's text: `xz -9` and an interpolated 5-gram model.

    python -m edgeprune.demo.baselines --seed 0 --training-tokens 2000000 --model DIR

The 5-gram model counts the tokens of the demo's own tokenizer over the training text that the demo model read, so both
had the same chance to learn. numpy and `tokenizers` only, no torch.
"""

import argparse
import json
import lzma
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from edgeprune.demo.paths import DEMO_DOMAINS, demo_model_path
from edgeprune.demo.stream import encode_documents
from edgeprune.demo.world import World

__all__ = ["NgramModel", "unigram_bits_per_token", "xz_bits_per_byte"]

ORDER = 5
DISCOUNT = 0.75

_HASH_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def xz_bits_per_byte(texts: list[str]) -> float:
    """Bits per byte of the texts, joined by blank lines and packed by `xz -9`."""
    plain = "\n\n".join(texts).encode()
    return 8 * len(lzma.compress(plain, preset=9)) / len(plain)


def unigram_bits_per_token(tokens: NDArray[np.int64]) -> float:
    """Entropy of the token frequencies, in bits per token."""
    _, counts = np.unique(tokens, return_counts=True)
    fractions = counts / counts.sum()
    return float(-(fractions * np.log2(fractions)).sum())


@dataclass(frozen=True, kw_only=True)
class _Level:
    """Counts of one order: of the n-grams, and of their first n - 1 tokens."""

    grams: NDArray[np.uint64]
    """[n] hashes of the n-grams, rising."""
    counts: NDArray[np.float64]
    """[n] count per n-gram."""
    contexts: NDArray[np.uint64]
    """[m] hashes of the contexts, rising."""
    totals: NDArray[np.float64]
    """[m] sum of `counts` per context."""
    kinds: NDArray[np.float64]
    """[m] different continuations per context."""


class NgramModel:
    """Interpolated Kneser-Ney model.

    Source: S. F. Chen and J. Goodman, "An empirical study of smoothing techniques for language modeling", 1999,
    with one discount for all orders.

    Args:
        tokens: [n] int64, the training text.
        vocab_size: number of different tokens.
    """

    def __init__(self, tokens: NDArray[np.int64], vocab_size: int) -> None:
        self._vocab_size = vocab_size
        self._levels = [_count(tokens, order, is_highest=order == ORDER) for order in range(1, ORDER + 1)]

    def bits(self, tokens: NDArray[np.int64]) -> float:
        """Bits for all tokens behind the first `ORDER` - 1."""
        length = len(tokens) - ORDER + 1
        probability = np.full(length, 1 / self._vocab_size)
        for order, level in enumerate(self._levels, 1):
            grams = _hashes(tokens, order)[-length:]
            contexts = _hashes(tokens[:-1], order - 1)[-length:]
            count = _look_up(level.grams, level.counts, grams)
            total = _look_up(level.contexts, level.totals, contexts)
            kinds = _look_up(level.contexts, level.kinds, contexts)
            seen = total > 0
            own = np.maximum(count[seen] - DISCOUNT, 0) / total[seen]
            probability[seen] = own + DISCOUNT * kinds[seen] / total[seen] * probability[seen]
        return float(-np.log2(probability).sum())


def _count(tokens: NDArray[np.int64], order: int, *, is_highest: bool) -> _Level:
    if is_highest:
        grams, counts = np.unique(_hashes(tokens, order), return_counts=True)
        first = np.unique(_hashes(tokens, order), return_index=True)[1]
    else:
        # Lower orders count the different tokens seen before the n-gram, not its occurrences.
        longer = np.unique(_hashes(tokens, order + 1), return_index=True)[1]
        grams, first, counts = np.unique(_hashes(tokens, order)[longer + 1], return_index=True, return_counts=True)
        first = longer[first] + 1
    contexts, inverse = np.unique(_hashes(tokens, order - 1)[first], return_inverse=True)
    return _Level(
        grams=grams,
        counts=counts.astype(np.float64),
        contexts=contexts,
        totals=np.bincount(inverse, weights=counts).astype(np.float64),
        kinds=np.bincount(inverse).astype(np.float64),
    )


def _hashes(tokens: NDArray[np.int64], order: int) -> NDArray[np.uint64]:
    """[len(tokens) - order + 1] hash of the n-gram that starts at each token."""
    length = len(tokens) - order + 1
    mixed = np.zeros(length, dtype=np.uint64)
    for offset in range(order):
        mixed = (mixed ^ tokens[offset : offset + length].astype(np.uint64)) * _HASH_FACTOR
        mixed ^= mixed >> np.uint64(29)
    return mixed


def _look_up(keys: NDArray[np.uint64], values: NDArray[np.float64], wanted: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Value of every wanted key, 0 where there is none."""
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0.0)


def main(argv: list[str] | None = None) -> int:
    """Write the baselines of every domain to standard output as JSON."""
    parser = argparse.ArgumentParser(prog="python -m edgeprune.demo.baselines", description="Score the baselines.")
    parser.add_argument("--seed", type=int, default=0, help="seed of the world")
    parser.add_argument("--training-tokens", type=int, required=True, help="tokens the 5-gram model counts")
    parser.add_argument("--model", type=Path, default=demo_model_path(), help="folder of the demo model")
    args = parser.parse_args(argv)
    tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    world = World(args.seed)
    ngrams = NgramModel(_training_tokens(world, tokenizer, args.training_tokens), tokenizer.get_vocab_size())
    scores = {}
    for domain in DEMO_DOMAINS:
        texts = world.split_documents(domain, "report")
        size = sum(len(text.encode()) for text in texts)
        bits = ngrams.bits(np.array(encode_documents(tokenizer, texts), dtype=np.int64))
        scores[domain] = {"xz": round(xz_bits_per_byte(texts), 4), "5-gram": round(bits / size, 4)}
    sys.stdout.write(json.dumps(scores, indent=2) + "\n")
    return 0


def _training_tokens(world: World, tokenizer: Tokenizer, count: int) -> NDArray[np.int64]:
    tokens: list[int] = []
    documents = world.training_documents()
    while len(tokens) < count:
        tokens += encode_documents(tokenizer, [next(documents)[1] for _ in range(256)])
    return np.array(tokens[:count], dtype=np.int64)


if __name__ == "__main__":
    sys.exit(main())
