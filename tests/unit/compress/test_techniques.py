"""One technique alone reaches the fraction asked for, at the least predicted loss."""

import itertools
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeprune.calibrate.statistics import CalibrationStats
from edgeprune.compress.allocate import Menu, allocate
from edgeprune.compress.techniques.table import technique_recipe
from edgeprune.errors import UsageError
from edgeprune.intake.spec import read_spec
from edgeprune.schema.model import BlockSpec, ModelSpec, SiteSpec
from edgeprune.schema.recipe import Recipe
from edgeprune.schema.scores import DepthOption, ScoreArrays, Scores, VocabularyOption
from edgeprune.shapes import count_parameters, edit_shapes
from tests.unit.compress.recipes import NO_SUMMARY


def _spec() -> ModelSpec:
    widths = {"q": (64, 64), "k": (64, 32), "v": (64, 32), "o": (64, 64), "gate": (64, 160), "up": (64, 160)}
    widths["down"] = (160, 64)
    blocks = tuple(
        BlockSpec(
            index=index,
            num_heads=4,
            num_kv_heads=2,
            head_dim=16,
            intermediate_size=160,
            norm_parameter_count=128,
            sites=tuple(
                SiteSpec(
                    name=f"blocks.{index}.{role}",
                    role=role,  # type: ignore[arg-type]
                    in_features=inputs,
                    out_features=outputs,
                    has_bias=role == "q",
                )
                for role, (inputs, outputs) in widths.items()
            ),
        )
        for index in range(4)
    )
    spec = ModelSpec(
        name="tiny",
        model_hash="a" * 64,
        model_type="llama",
        family="llama",
        architecture="LlamaForCausalLM",
        hidden_size=64,
        vocab_size=512,
        max_positions=128,
        is_tied=True,
        position_kind="rotary",
        rotary_dim=16,
        norm_kind="rms",
        norm_epsilon=1e-5,
        activation="silu",
        is_gated=True,
        blocks=blocks,
        final_norm_parameter_count=64,
        source_dtype="float32",
        source_bytes=0,
        parameter_count=0,
        tokenizer_bytes=0,
    )
    return edit_shapes(spec, Recipe(model_hash="a" * 64, context_tokens=32))


def _scores(spec: ModelSpec) -> tuple[Scores, ScoreArrays]:
    rng = np.random.default_rng(0)
    arrays: ScoreArrays = {}
    counts = (32, 64, 96, 128, 160)
    for block in spec.blocks:
        arrays[f"channel_loss/{block.index}"] = np.array([0.4, 0.2, 0.1, 0.02, 0.0]) * (1 + block.index)
        for site in block.sites:
            spectrum = np.sort(rng.exponential(size=min(site.in_features, site.out_features)))[::-1]
            tail = np.append(spectrum[::-1].cumsum()[::-1], 0.0)
            arrays[f"rank_loss/lowrank/{site.name}"] = tail
            arrays[f"rank_loss/laser/{site.name}"] = 3.0 * tail
    scores = Scores(
        model_hash=spec.model_hash,
        seed=0,
        calibration=NO_SUMMARY,
        dense_losses=(),
        kernels=("fp32",),
        rank_methods=("lowrank", "laser"),
        channel_counts=(counts,) * len(spec.blocks),
        depth=(
            DepthOption(drop_blocks=(), loss_increase_nats=0.0, selector="none"),
            DepthOption(drop_blocks=(2,), loss_increase_nats=0.5, selector="lorp"),
            DepthOption(drop_blocks=(1, 2), loss_increase_nats=0.9, selector="lorp"),
        ),
        vocabulary=(
            VocabularyOption(kept_count=256, loss_increase_nats=0.3, token_inflation=1.2),
            VocabularyOption(kept_count=400, loss_increase_nats=0.01, token_inflation=1.01),
        ),
    )
    return scores, arrays


@pytest.mark.parametrize("technique", ["laser", "lowrank"])
@pytest.mark.parametrize("kept", [0.6, 0.8, 0.93])
def test_the_kept_fraction_is_reached(technique: str, kept: float) -> None:
    spec = _spec()
    scores, arrays = _scores(spec)
    recipe = technique_recipe(spec, technique, kept, scores=scores, arrays=arrays, context_tokens=32)
    reached = edit_shapes(spec, recipe).parameter_count / count_parameters(spec)
    assert reached == pytest.approx(kept, abs=0.011)
    assert recipe.technique == technique
    assert {site.method for site in recipe.sites} == {technique}
    assert recipe.keep_tokens is None


def test_lorp_takes_the_nearest_number_of_blocks() -> None:
    spec = _spec()
    scores, arrays = _scores(spec)
    dense = count_parameters(spec)
    sizes = [
        edit_shapes(spec, Recipe(model_hash=spec.model_hash, context_tokens=32, drop_blocks=drop)).parameter_count
        for drop in ((), (2,), (1, 2))
    ]
    for expected, size in zip(((), (2,), (1, 2)), sizes, strict=True):
        recipe = technique_recipe(spec, "lorp", size / dense - 0.02, scores=scores, arrays=arrays, context_tokens=32)
        assert recipe.drop_blocks == expected


@pytest.mark.parametrize("technique", ["laser", "lowrank", "lorp"])
def test_keeping_everything_is_the_dense_model(technique: str) -> None:
    spec = _spec()
    scores, arrays = _scores(spec)
    recipe = technique_recipe(spec, technique, 1.0, scores=scores, arrays=arrays, context_tokens=32)
    assert edit_shapes(spec, recipe).parameter_count == count_parameters(spec)


@pytest.mark.parametrize("kept", [0.0, -0.5, 1.01, float("nan")])
def test_a_fraction_outside_its_range_is_refused(kept: float) -> None:
    spec = _spec()
    scores, arrays = _scores(spec)
    with pytest.raises(UsageError, match="must lie above 0 and at most 1"):
        technique_recipe(spec, "lowrank", kept, scores=scores, arrays=arrays, context_tokens=32)


@pytest.mark.parametrize("technique", ["laser", "lowrank", "lorp"])
def test_what_cannot_be_reached_is_refused_with_the_smallest_size(technique: str) -> None:
    spec = _spec()
    scores, arrays = _scores(spec)
    with pytest.raises(UsageError, match=rf"{technique} alone cannot keep .* smallest model keeps \d"):
        technique_recipe(spec, technique, 0.02, scores=scores, arrays=arrays, context_tokens=32)


def test_unknown_techniques_and_missing_scores_are_named() -> None:
    spec = _spec()
    scores, arrays = _scores(spec)
    with pytest.raises(UsageError, match="'magic'; use one of laser, lowrank, "):
        technique_recipe(spec, "magic", 0.5, scores=scores, arrays=arrays, context_tokens=32)
    with pytest.raises(UsageError, match=r"hold no rank_loss/laser/blocks\.0\.q"):
        technique_recipe(spec, "laser", 0.5, scores=scores, arrays={}, context_tokens=32)


def test_the_allocation_is_near_the_exhaustive_optimum_and_within_the_total() -> None:
    rng = np.random.default_rng(3)
    menus = []
    for _ in range(3):
        costs = np.sort(rng.choice(np.arange(1, 60), size=24, replace=False))
        menus.append(Menu(costs=costs, losses=np.sort(rng.exponential(size=24))[::-1].copy()))
    for total in (30, 60, 90, 120):
        feasible = [
            (sum(float(menu.losses[at]) for menu, at in zip(menus, chosen, strict=True)), chosen)
            for chosen in itertools.product(range(24), repeat=3)
            if sum(int(menu.costs[at]) for menu, at in zip(menus, chosen, strict=True)) <= total
        ]
        assert feasible
        chosen = allocate(menus, total)
        assert sum(int(menu.costs[at]) for menu, at in zip(menus, chosen, strict=True)) <= total
        loss = sum(float(menu.losses[at]) for menu, at in zip(menus, chosen, strict=True))
        assert loss <= 1.1 * min(feasible)[0] + 1e-12


def test_a_technique_that_measures_says_what_it_lacks() -> None:
    spec = _spec()
    scores, arrays = _scores(spec)
    with pytest.raises(UsageError, match=r"sleb needs the model.*--technique sleb"):
        technique_recipe(spec, "sleb", 0.8, scores=scores, arrays=arrays, context_tokens=32)


LAB = os.environ.get("EDGEPRUNE_LAB")


@pytest.mark.lab
@pytest.mark.skipif(LAB is None, reason="EDGEPRUNE_LAB names no lab folder")
@pytest.mark.parametrize("domain", ["medicine", "law"])
@pytest.mark.parametrize("technique", ["lorp", "shortgpt", "streamline"])
def test_techniques_drop_the_blocks_that_their_authors_code_drops(technique: str, domain: str) -> None:
    assert LAB is not None
    fixture = json.loads((Path(LAB) / "fixtures" / f"depth.{domain}.json").read_bytes())
    spec = read_spec(Path(LAB) / "model")
    scores, arrays = _scores(spec)
    stats = _statistics(torch.tensor(fixture["similarity"], dtype=torch.float64))
    dense = count_parameters(spec)
    for count, expected in fixture[technique].items():
        dropped = Recipe(model_hash=spec.model_hash, context_tokens=32, drop_blocks=tuple(range(1, 1 + int(count))))
        kept = edit_shapes(spec, dropped).parameter_count / dense
        recipe = technique_recipe(spec, technique, kept, scores=scores, arrays=arrays, context_tokens=32, stats=stats)
        assert list(recipe.drop_blocks) == expected


def _statistics(similarity: torch.Tensor) -> CalibrationStats:
    """Statistics of which only the similarity of block inputs is read."""
    counts, windows = torch.zeros(1, dtype=torch.int64), torch.zeros((1, 8), dtype=torch.int32)
    return CalibrationStats(
        gram={},
        mean={},
        activation_noise={},
        output_weight={},
        block_similarity=similarity,
        token_count=counts,
        general_token_count=counts,
        tokens=windows,
        general_tokens=windows,
        edits_hash="",
        token_total=8,
        stability=None,
    )
