"""Tokens are chosen as asked: greedy, by temperature, from the nucleus."""

import numpy as np
import pytest

from edgeprune.errors import UsageError
from edgeprune.generate.sampling import Sampler
from edgeprune.schema.generation import Sampling

LOGITS = np.log(np.array([0.5, 0.3, 0.15, 0.05], dtype=np.float32))


def shares(sampling: Sampling, count: int = 4000) -> list[float]:
    sampler = Sampler(sampling)
    drawn = [sampler.choose(LOGITS) for _ in range(count)]
    return [drawn.count(token) / count for token in range(4)]


def test_without_temperature_the_most_likely_token_is_taken_and_ties_go_to_the_lowest() -> None:
    assert Sampler(Sampling()).choose(LOGITS) == 0
    assert Sampler(Sampling()).choose(np.array([1.0, 3.0, 3.0], dtype=np.float32)) == 1


def test_draws_follow_the_softmax() -> None:
    assert shares(Sampling(temperature=1.0, seed=0)) == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.03)
    # Halving the temperature squares the probabilities before they are scaled to one.
    squares = np.array([0.25, 0.09, 0.0225, 0.0025])
    assert shares(Sampling(temperature=0.5, seed=0)) == pytest.approx(squares / squares.sum(), abs=0.03)


def test_the_nucleus_is_the_fewest_tokens_that_reach_top_p() -> None:
    found = shares(Sampling(temperature=1.0, top_p=0.7, seed=0))
    assert found[2:] == [0.0, 0.0]
    assert found[:2] == pytest.approx([0.625, 0.375], abs=0.03)
    assert shares(Sampling(temperature=1.0, top_p=0.4, seed=0), count=50) == [1.0, 0.0, 0.0, 0.0]


def test_a_seed_repeats_the_draws() -> None:
    first, second = (Sampler(Sampling(temperature=1.0, seed=7)) for _ in range(2))
    assert [first.choose(LOGITS) for _ in range(50)] == [second.choose(LOGITS) for _ in range(50)]


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"max_tokens": 0},
        {"stop": ("",)},
    ],
)
def test_what_no_sampler_can_do_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Sampling(**values)  # type: ignore[arg-type]
