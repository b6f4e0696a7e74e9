import numpy as np
import pytest

from edgeprune.demo.baselines import NgramModel, unigram_bits_per_token, xz_bits_per_byte


def test_ngram_probabilities_sum_to_one_in_seen_and_unseen_contexts() -> None:
    tokens = np.random.default_rng(0).integers(0, 7, 3000)
    model = NgramModel(tokens, 9)
    for context in ([1, 2, 3, 4], [8, 8, 8, 8]):
        total = sum(2 ** -model.bits(np.array([*context, token])) for token in range(9))
        assert total == pytest.approx(1.0)


def test_ngram_model_learns_a_cycle() -> None:
    tokens = np.tile(np.arange(6), 500)
    assert NgramModel(tokens, 6).bits(tokens[:104]) < 5


def test_unigram_entropy_of_even_tokens() -> None:
    assert unigram_bits_per_token(np.tile(np.arange(8), 5)) == pytest.approx(3.0)


def test_xz_packs_repetition() -> None:
    assert xz_bits_per_byte(["the same line again"] * 500) < 0.2
