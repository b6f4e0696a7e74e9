"""The pieces of the demo's bench whose answers are known."""

import numpy as np
import pytest

from edgeprune.demo.paths import DEMO_DOMAINS
from tests.bench.demo_figures import criterion, greedy_blocks, judge_dense, markdown, pooled, rise, rise_samples

DENSE = (np.array([10.0, 20.0, 30.0]), np.array([5.0, 10.0, 15.0]))


def test_rise_is_of_bits_per_byte_not_of_bits() -> None:
    edited = (np.array([30.0, 60.0, 90.0]), np.array([10.0, 20.0, 30.0]))
    assert rise(edited, DENSE) == pytest.approx(0.5)
    assert rise(DENSE, DENSE) == 0.0


def test_pooling_weighs_documents_by_their_bytes() -> None:
    other = (np.array([10.0]), np.array([10.0]))
    nats, sizes = pooled([DENSE, other])
    assert nats.sum() / sizes.sum() == pytest.approx(70 / 40)


def test_bootstrap_covers_a_rise_that_differs_by_document_and_not_one_that_is_constant() -> None:
    rng = np.random.default_rng(0)
    dense = (rng.uniform(50, 150, 60), np.full(60, 100.0))
    constant = (dense[0] * 1.3, dense[1])
    assert rise_samples(constant, dense, seed=0) == pytest.approx(0.3)
    noisy = (dense[0] * rng.uniform(1.0, 1.6, 60), dense[1])
    samples = rise_samples(noisy, dense, seed=0)
    low, high = np.quantile(samples, (0.025, 0.975))
    assert low < rise(noisy, dense) < high
    assert 0.01 < high - low < 0.2


def test_greedy_drops_the_mildest_block_each_time() -> None:
    costs = {0: 9.0, 1: 1.0, 2: 2.0, 3: 4.0}

    def loss(blocks: tuple[int, ...]) -> float:
        # Together 1 and 2 are worse than 1 and 3: the second choice looks at what is already gone.
        return sum(costs[block] for block in blocks) + (5.0 if {1, 2} <= set(blocks) else 0.0)

    assert greedy_blocks(range(4), 1, loss) == (1,)
    assert greedy_blocks(range(4), 2, loss) == (1, 3)


def test_a_criterion_without_a_number_is_not_met() -> None:
    assert criterion("a", 0.25, 0.25, is_least=True, source="")["met"]
    assert not criterion("a", 0.24, 0.25, is_least=True, source="")["met"]
    assert criterion("a", 0.24, 0.25, is_least=False, source="")["met"]
    assert not criterion("a", float("nan"), 0.25, is_least=False, source="")["met"]


def _found(*, dense: float, frequent: float, rare: float) -> dict[str, object]:
    bits = {domain: {"dense": dense, "xz": 1.0, "5-gram": 0.5} for domain in DEMO_DOMAINS}
    right = {domain: {"frequent": frequent, "rare": rare} for domain in ("law", "medicine", "finance")}
    return {"bits_per_byte": bits, "accuracy": right}


@pytest.mark.parametrize(
    ("dense", "frequent", "rare", "missed"),
    [
        (0.3, 0.95, 0.5, set()),
        (0.45, 0.95, 0.5, {"dense below 5-gram"}),
        (0.8, 0.95, 0.5, {"dense below xz", "dense below 5-gram"}),
        (0.3, 0.85, 0.5, {"accuracy, frequent"}),
        (0.3, 0.95, 0.27, {"accuracy, rare, lower end"}),
        (0.3, 0.95, 0.9, {"accuracy, rare, upper end"}),
    ],
)
def test_dense_figures_are_judged_one_by_one(dense: float, frequent: float, rare: float, missed: set[str]) -> None:
    rows = judge_dense(_found(dense=dense, frequent=frequent, rare=rare))
    assert {row["name"] for row in rows if not row["met"]} == missed
    assert len(rows) == 5


def test_one_bad_domain_is_enough_to_miss() -> None:
    found = _found(dense=0.3, frequent=0.95, rare=0.5)
    found["bits_per_byte"]["finance"]["dense"] = 0.49  # type: ignore[index]
    row = next(row for row in judge_dense(found) if row["name"] == "dense below 5-gram")
    assert not row["met"]
    assert "finance" in row["source"]


def test_markdown_has_a_column_for_each_domain() -> None:
    rises = dict.fromkeys((*DEMO_DOMAINS, "all"), 1.5)
    figures = _found(dense=0.3, frequent=0.95, rare=0.5) | {
        "svd_half_rank_rise": rises,
        "depth": [{"blocks": [2, 3, 5], "rise": rises}, {"blocks": [2, 3, 5, 6], "rise": rises}],
        "domain_pruning": {"kept_fraction": {"law": 0.8}, "rise": {"law": rises}},
    }
    lines = markdown(figures).splitlines()
    assert lines[0] == "| | law | medicine | finance | general |"
    assert {line.count("|") for line in lines} == {6}
    assert "| accuracy, rare facts | 0.50 | 0.50 | 0.50 | - |" in lines
    assert "| without blocks 2, 3, 5 | +150.0% | +150.0% | +150.0% | +150.0% |" in lines
    assert "| without blocks 2, 3, 5, 6 | +150.0% | +150.0% | +150.0% | +150.0% |" in lines
    assert "| pruned for law, 80% kept | +150.0% | +150.0% | +150.0% | +150.0% |" in lines
