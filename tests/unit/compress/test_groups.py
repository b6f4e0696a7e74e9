"""Fewer key-value groups in single blocks: which ones leave, what is compensated, and that the model still runs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeprune.calibrate.capture import capture
from edgeprune.calibrate.group_scores import (
    compensated_output,
    group_columns,
    group_errors_on,
    group_menu,
    group_order,
    output_moment,
)
from edgeprune.calibrate.site_weights import output_error
from edgeprune.calibrate.statistics import CalibrationStats
from edgeprune.compress.apply import compress_model
from edgeprune.compress.groups import kept_rows
from edgeprune.compress.load import load
from edgeprune.compress.save import save_hf
from edgeprune.errors import UsageError
from edgeprune.intake.load import LoadedModel, load_model
from edgeprune.schema.events import NullProgress
from edgeprune.schema.model import BlockSpec
from edgeprune.schema.recipe import KeepChannels, KeepGroups, Recipe, SiteEdit
from tests.contract.adapter_contract import cached_logits, logits
from tests.tiny import write_tiny_gpt2, write_tiny_llama
from tests.unit.compress.recipes import no_edit

KINDS: dict[str, dict[str, Any]] = {
    "llama": {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 8},
    "llama with biases": {
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 16,
        "attention_bias": True,
        "tie_word_embeddings": False,
    },
    "mistral": {"num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 16, "sliding_window": 20},
    "qwen2": {"num_attention_heads": 8, "num_key_value_heads": 8, "head_dim": 8},
    "qwen3": {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 16},
    "gpt2": {"n_head": 4},
}


def _load(folder: Path, kind: str) -> LoadedModel:
    name = kind.split()[0]
    if name == "gpt2":
        return load_model(write_tiny_gpt2(folder, **KINDS[kind]))
    return load_model(write_tiny_llama(folder, model_type=name, **KINDS[kind]))


@pytest.fixture(scope="module", params=KINDS)
def prepared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[LoadedModel, Any]:
    loaded = _load(tmp_path_factory.mktemp("groups"), request.param)
    windows = torch.randint(0, 512, (32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    return loaded, capture(loaded, windows, gradient_tokens=0)


def _edit(loaded: LoadedModel, counts: dict[int, int], **more: Any) -> Recipe:
    groups = tuple(KeepGroups(block=block, kept_count=count) for block, count in counts.items())
    return no_edit(loaded, keep_groups=groups, **more)


def _compress(prepared: tuple[LoadedModel, CalibrationStats], recipe: Recipe) -> LoadedModel:
    return compress_model(prepared[0], recipe, prepared[1], progress=NullProgress())


def _inputs(channels: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(channels, channels, generator=generator, dtype=torch.float64)
    return torch.randn(500, channels, generator=generator, dtype=torch.float64) @ mixing


def _moment(inputs: Tensor) -> Tensor:
    return inputs.T @ inputs / len(inputs)


def test_the_error_of_every_count_is_what_compensation_leaves() -> None:
    inputs = _inputs(12)
    weight = torch.randn(7, 12, generator=torch.Generator().manual_seed(3))
    order = group_order(weight, _moment(inputs), 4)
    assert sorted(order.groups.tolist()) == [0, 1, 2, 3]
    for count in range(1, 5):
        columns = group_columns(torch.from_numpy(np.sort(order.groups[:count])), 3)
        narrowed = torch.linalg.lstsq(inputs[:, columns], inputs @ weight.double().T).solution.T
        left = float(((inputs @ weight.double().T - inputs[:, columns] @ narrowed.T) ** 2).sum(1).mean())
        assert order.errors[count] == pytest.approx(left, rel=1e-6, abs=1e-9)
    assert order.errors[0] == pytest.approx(float(((inputs @ weight.double().T) ** 2).sum(1).mean()))


def test_each_step_drops_the_group_that_costs_least() -> None:
    inputs = _inputs(12, seed=4)
    weight = torch.randn(5, 12, generator=torch.Generator().manual_seed(5))
    moment = _moment(inputs)
    order = group_order(weight, moment, 4)
    alone = []
    for dropped in range(4):
        kept = group_columns(torch.tensor([group for group in range(4) if group != dropped]), 3)
        alone.append(output_error(weight.double() - compensated_output(weight, moment, kept).double(), moment))
    assert order.groups[-1] == int(np.argmin(alone))
    assert order.errors[3] == pytest.approx(min(alone), rel=1e-5)


def test_a_group_that_repeats_another_leaves_first_and_for_nothing() -> None:
    inputs = _inputs(8)
    inputs[:, 6:8] = inputs[:, 2:4] @ torch.tensor([[1.0, 2.0], [0.5, -1.0]], dtype=torch.float64)
    inputs += 1e-4 * _inputs(8, seed=9)
    weight = torch.randn(6, 8, generator=torch.Generator().manual_seed(2))
    order = group_order(weight, _moment(inputs), 4)
    assert order.groups[-1] in (1, 3)
    assert order.errors[3] < 1e-4 * order.errors[2]


def test_errors_on_the_same_text_are_the_orders_own() -> None:
    inputs = _inputs(12, seed=6)
    weight, moment = torch.randn(5, 12, generator=torch.Generator().manual_seed(7)), _moment(inputs)
    order = group_order(weight, moment, 6)
    found = group_errors_on(weight, moment, order, (1, 3, 5), moment)
    np.testing.assert_allclose(found, order.errors[[1, 3, 5]], rtol=1e-4)


@pytest.mark.parametrize(
    ("count", "menu"),
    [(1, ()), (2, (1,)), (5, (1, 2, 3, 4)), (6, (2, 3, 4, 5)), (8, (2, 4, 6, 7)), (32, (8, 16, 24, 28))],
)
def test_menus_leave_at_least_one_group_and_stay_short(count: int, menu: tuple[int, ...]) -> None:
    assert group_menu(count) == menu


def test_rows_of_a_fused_matrix_come_from_all_thirds() -> None:
    block = BlockSpec(
        index=0, num_heads=3, num_kv_heads=3, head_dim=2, intermediate_size=4, sites=(), norm_parameter_count=0
    )
    assert kept_rows("qkv", torch.tensor([0, 2]), block).tolist() == [0, 1, 4, 5, 6, 7, 10, 11, 12, 13, 16, 17]
    grouped = BlockSpec(
        index=0, num_heads=4, num_kv_heads=2, head_dim=2, intermediate_size=4, sites=(), norm_parameter_count=0
    )
    assert kept_rows("q", torch.tensor([1]), grouped).tolist() == [4, 5, 6, 7]
    assert kept_rows("v", torch.tensor([1]), grouped).tolist() == [2, 3]


def test_an_uneven_model_runs_with_and_without_its_cache(prepared: tuple[LoadedModel, CalibrationStats]) -> None:
    loaded, _ = prepared
    smaller = _compress(prepared, _edit(loaded, {0: 1, 2: 2}))
    assert [block.num_kv_heads for block in smaller.spec.blocks][0::2] == [1, 2]
    assert smaller.spec.parameter_count < loaded.spec.parameter_count
    tokens = torch.randint(0, 512, (1, 30), generator=torch.Generator().manual_seed(1))
    whole = logits(smaller.model, tokens)
    torch.testing.assert_close(cached_logits(smaller.model, tokens), whole, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        cache = smaller.model(tokens, use_cache=True).past_key_values
    assert [layer.keys.shape[1] for layer in cache.layers] == [block.num_kv_heads for block in smaller.spec.blocks]
    made = smaller.model.generate(tokens, max_new_tokens=5, min_new_tokens=5, do_sample=False, pad_token_id=0)
    assert made.shape == (1, 35)


def test_the_groups_that_stay_compute_what_they_did(prepared: tuple[LoadedModel, CalibrationStats]) -> None:
    """With o's columns of the dropped groups at zero, the dense model gives what the narrow matrices give."""
    loaded, stats = prepared
    block = loaded.spec.blocks[1]
    smaller = _compress(prepared, _edit(loaded, {1: 2}))
    output = loaded.adapter.site(loaded.adapter.blocks(loaded.model)[1], "o")
    narrow = smaller.adapter.site(smaller.adapter.blocks(smaller.model)[1], "o")
    assert isinstance(output, nn.Linear)
    assert isinstance(narrow, nn.Linear)
    moment = output_moment(stats, 1, has_bias=output.bias is not None)
    order = group_order(output.weight, moment, block.num_kv_heads)
    kept = torch.from_numpy(np.sort(order.groups[:2]))
    columns = group_columns(kept, output.in_features // block.num_kv_heads)
    weight, bias = output.weight.detach().clone(), None if output.bias is None else output.bias.detach().clone()
    try:
        with torch.no_grad():
            output.weight.zero_()
            output.weight[:, columns] = narrow.weight
            if output.bias is not None:
                assert narrow.bias is not None
                output.bias.copy_(narrow.bias)
        torch.testing.assert_close(logits(smaller.model), logits(loaded.model), rtol=1e-4, atol=1e-4)
    finally:
        with torch.no_grad():
            output.weight.copy_(weight)
            if output.bias is not None and bias is not None:
                output.bias.copy_(bias)


def test_compensation_loses_less_than_slicing(prepared: tuple[LoadedModel, CalibrationStats]) -> None:
    loaded, stats = prepared
    smaller = _compress(prepared, _edit(loaded, {0: 1}))
    block = loaded.adapter.blocks(loaded.model)[0]
    output = loaded.adapter.site(block, "o")
    narrow = smaller.adapter.site(smaller.adapter.blocks(smaller.model)[0], "o")
    assert isinstance(output, nn.Linear)
    assert isinstance(narrow, nn.Linear)
    moment = output_moment(stats, 0, has_bias=output.bias is not None)
    count = loaded.spec.blocks[0].num_kv_heads
    kept = torch.from_numpy(group_order(output.weight, moment, count).groups[:1])
    columns = group_columns(kept, output.in_features // count)
    sliced, compensated = output.weight.detach().double().clone(), output.weight.detach().double().clone()
    is_kept = torch.zeros(output.in_features, dtype=torch.bool)
    is_kept[columns] = True
    sliced[:, is_kept] = 0.0
    compensated[:, columns] -= narrow.weight.detach().double()
    assert output_error(compensated, moment) < output_error(sliced, moment)


def test_saving_and_loading_gives_the_same_bits(prepared: tuple[LoadedModel, CalibrationStats], tmp_path: Path) -> None:
    loaded, _ = prepared
    recipe = _edit(
        loaded,
        {0: 1, 2: 2},
        drop_blocks=(1,),
        keep_channels=(KeepChannels(block=0, kept_count=64),),
        sites=(SiteEdit(name="blocks.0.o", rank=5), SiteEdit(name="blocks.2.o", kernel="int8_b32_a4")),
    )
    smaller = _compress(prepared, recipe)
    save_hf(smaller, recipe, tmp_path / "hf")
    again = load(tmp_path / "hf")
    assert again.spec == smaller.spec
    assert torch.equal(logits(again.model), logits(smaller.model))
    torch.testing.assert_close(cached_logits(again.model), cached_logits(smaller.model), rtol=1e-5, atol=1e-5)


def test_a_compressed_model_can_lose_more_groups(
    prepared: tuple[LoadedModel, CalibrationStats], tmp_path: Path
) -> None:
    loaded, _ = prepared
    recipe = _edit(loaded, {0: 2})
    save_hf(_compress(prepared, recipe), recipe, tmp_path / "hf")
    again = load(tmp_path / "hf")
    windows = torch.randint(0, 512, (8, 32), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    stats = capture(again, windows, gradient_tokens=0)
    twice = compress_model(again, _edit(again, {0: 1, 1: 1}), stats, progress=NullProgress())
    assert [block.num_kv_heads for block in twice.spec.blocks[:2]] == [1, 1]
    assert torch.isfinite(logits(twice.model)).all()


def test_keeping_all_groups_changes_nothing(prepared: tuple[LoadedModel, CalibrationStats]) -> None:
    loaded, _ = prepared
    same = _compress(prepared, _edit(loaded, {0: loaded.spec.blocks[0].num_kv_heads}))
    assert same.spec.blocks == loaded.spec.blocks
    assert torch.equal(logits(same.model), logits(loaded.model))


def test_the_input_is_untouched_when_a_recipe_is_refused(prepared: tuple[LoadedModel, CalibrationStats]) -> None:
    loaded, _ = prepared
    before = logits(loaded.model)
    for counts in ({0: 0}, {0: 99}, {9: 1}):
        with pytest.raises(UsageError, match="keep_groups"):
            _compress(prepared, _edit(loaded, counts))
    assert torch.equal(logits(loaded.model), before)
