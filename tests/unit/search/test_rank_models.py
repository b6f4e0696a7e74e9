"""Ranking of several models: the same as brute force over their fronts, and honest about what it compares."""

import functools
import random

import pytest
from msgspec.structs import replace

from edgeprune.pipeline.choose_rows import is_pruned, predicted_rows
from edgeprune.pipeline.solve import solve_request
from edgeprune.schema.budget import BudgetRequest, Limit
from edgeprune.schema.candidate import SearchResult
from edgeprune.schema.choice import ChoiceRow
from edgeprune.schema.model import ModelSpec
from edgeprune.schema.scores import ScoreArrays, Scores
from edgeprune.search.quantities import predicted_verdict
from edgeprune.search.rank_models import advise, rank_rows
from tests.unit.search.builders import make_device, make_scores, make_spec, make_workload

SIZES = {"small": (2, 48, 128), "middle": (3, 64, 176), "large": (4, 96, 256)}


def make_model(name: str, dense_bits: float) -> tuple[ModelSpec, Scores, ScoreArrays]:
    blocks, hidden, inner = SIZES[name]
    spec = make_spec(blocks=blocks, hidden=hidden, intermediate=inner)
    scores, arrays = make_scores(
        spec,
        seed=len(name),
        channel_counts=(inner // 2 // 32 * 32,),
        depth=[(1,)] if blocks > 2 else [],
        vocabulary=[256],
    )
    losses = tuple(replace(entry, bits_per_byte=dense_bits) for entry in scores.dense_losses)
    return spec, replace(scores, dense_losses=losses), arrays


@functools.cache
def solve(name: str, disk_bytes: int) -> SearchResult:
    spec, scores, arrays = make_model(name, 1.2)
    return solve_request(
        BudgetRequest(disk=Limit(absolute=float(disk_bytes)), memory=Limit(absolute=90e6)),
        device=make_device(),
        spec=spec,
        scores=scores,
        arrays=arrays,
        workload=make_workload(spec),
        seed=0,
    )


@pytest.mark.parametrize("disk_bytes", [70_000, 130_000, 260_000, 2_000_000])
@pytest.mark.parametrize("bits", [(1.30, 1.20, 1.10), (1.12, 1.11, 1.10), (1.00, 1.20, 1.40)])
def test_the_winner_of_three_models_is_what_brute_force_over_their_fronts_finds(
    disk_bytes: int, bits: tuple[float, float, float]
) -> None:
    rows: list[ChoiceRow] = []
    everything: list[tuple[float, str]] = []
    for name, dense in zip(SIZES, bits, strict=True):
        result = solve(name, disk_bytes)
        rows += predicted_rows(name, *make_model(name, dense)[:2], result)
        candidates = [*result.front, *result.baselines, result.dense, *([result.chosen] if result.chosen else [])]
        everything += [
            (dense * (1.0 + candidate.relative_loss), name)
            for candidate in candidates
            if predicted_verdict(candidate, result.budget) == "met"
        ]
    ranking = rank_rows(rows)
    if not everything:
        assert ranking == ()
        return
    best_bits, best_name = min(everything)
    assert ranking[0].model == best_name
    assert ranking[0].bits_per_byte == pytest.approx(best_bits, rel=1e-9)
    by_model = {name: min(found for found, owner in everything if owner == name) for _, name in everything}
    assert [row.model for row in ranking] == sorted(by_model, key=lambda name: by_model[name])


def row(model: str, bits: float | None, **fields: object) -> ChoiceRow:
    """A row of a real search, with the fields a test is about set."""
    template = predicted_rows(model, *make_model("small", 1.2)[:2], _RESULT)[0]
    values: dict[str, object] = {"bits_per_byte": bits, "label": "recipe", "is_pruned": False, "fits": "met", **fields}
    return replace(template, **values)


_RESULT = solve("small", 260_000)


def test_what_does_not_fit_or_has_no_figure_is_not_ranked() -> None:
    rows = [row("a", 1.0, fits="not_met"), row("b", None), row("c", 1.2), row("d", 1.1, fits="unmeasured")]
    assert [entry.model for entry in rank_rows(rows)] == ["c", "d"]


def test_measured_figures_stand_before_predicted_ones() -> None:
    rows = [row("predicted", 1.0), row("measured", 1.1, quality_basis="measured")]
    assert [entry.model for entry in rank_rows(rows)] == ["measured", "predicted"]


def test_each_model_stands_once_with_its_best_form_whatever_the_order_of_rows() -> None:
    rows = [
        row(model, bits, label=label)
        for model, bits, label in (("a", 1.3, "int4"), ("a", 1.1, "int8"), ("b", 1.2, "dense"))
    ]
    for seed in range(6):
        shuffled = [*rows]
        random.Random(seed).shuffle(shuffled)
        assert [(entry.model, entry.label) for entry in rank_rows(shuffled)] == [("a", "int8"), ("b", "dense")]


def test_a_smaller_whole_model_that_is_better_is_advised() -> None:
    rows = [
        row("big", 1.20, is_pruned=True, dense_parameter_count=900),
        row("big", 1.00, label="dense", dense_parameter_count=900, fits="not_met"),
        row("little", 1.15, label="int8", dense_parameter_count=100),
        row("little", 1.18, label="recipe", is_pruned=True, dense_parameter_count=100),
    ]
    (sentence,) = advise(rows)
    assert sentence.startswith("Do not prune big, take the smaller model: little as plain int8 (1.1500 bits per byte")
    (sentence,) = advise([replace(rows[0], bits_per_byte=1.1), *rows[1:]])
    assert sentence.startswith("Pruning big beats little as plain int8 (1.1500 bits per byte against 1.1000")


def test_no_advice_across_bases_or_toward_a_larger_model() -> None:
    pruned = row("big", 1.20, is_pruned=True, dense_parameter_count=900, quality_basis="measured")
    assert advise([pruned, row("little", 1.0, label="int8", dense_parameter_count=100)]) == ()
    assert advise([replace(pruned, dense_parameter_count=50), row("little", 1.0, dense_parameter_count=100)]) == ()


def test_bits_alone_are_not_pruning() -> None:
    assert not is_pruned(_RESULT.dense.recipe)
    assert not any(is_pruned(entry.recipe) for entry in _RESULT.baselines)
    tight = solve("small", 70_000).chosen
    assert tight is not None
    assert is_pruned(tight.recipe)
