"""Few values a head: exact where every head has its own, nothing lost at full width, one matrix stored of each site."""

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace

from edgeprune.compress.apply import compress_model
from edgeprune.compress.head_linear import HeadColumns, HeadRows
from edgeprune.compress.load import load
from edgeprune.compress.merged_values import MergedValues, first_of_heads, merge_values, merged_losses, value_bases
from edgeprune.compress.recover.lora import adapters
from edgeprune.compress.save import save_hf
from edgeprune.compress.techniques.request import size
from edgeprune.compress.techniques.values import values_recipe
from edgeprune.errors import UsageError
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.events import NullProgress
from edgeprune.schema.model import site_name
from edgeprune.schema.recipe import Recipe, SiteEdit
from edgeprune.shapes import edit_shapes
from tests.unit.compress.recipes import Tiny, no_edit, rank_request

HEAD_DIM, WIDTH = 6, 20


def few_values(loaded: LoadedModel, kept: int, *, kernel: str = "fp32", blocks: tuple[int, ...] = (0, 2)) -> Recipe:
    sites = []
    for block in loaded.spec.blocks:
        if block.index in blocks:
            rows, columns = kept * block.num_kv_heads, kept * block.num_heads
            sites += [
                SiteEdit(name=site_name(block.index, "v"), rank=rows, form="head_rows", kernel=kernel),
                SiteEdit(name=site_name(block.index, "o"), rank=columns, form="head_columns", kernel=kernel),
            ]
    return no_edit(loaded, sites=tuple(sites))


class Drawn:
    """Random weights and the second moment of what heads hand on."""

    def __init__(self, head_count: int, group_count: int) -> None:
        generator = torch.Generator().manual_seed(head_count)

        def draw(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.head_count, self.group_count = head_count, group_count
        self.output, self.value = draw(WIDTH, head_count * HEAD_DIM), draw(group_count * HEAD_DIM, WIDTH)
        self.mixed = draw(500, head_count * HEAD_DIM) @ draw(head_count * HEAD_DIM, head_count * HEAD_DIM)
        self.gram = self.mixed.T @ self.mixed / len(self.mixed)
        self.bases = value_bases(self.output, self.gram, head_count=head_count, group_count=group_count)

    def merged(self, kept: int, bases: torch.Tensor | None = None) -> MergedValues:
        return merge_values(
            self.value,
            None,
            self.output,
            None,
            bases=self.bases if bases is None else bases,
            kept=kept,
            gram=self.gram,
            mean=self.mixed.mean(dim=0),
        )

    def error(self, kept: int, bases: torch.Tensor | None = None) -> float:
        """Mean squared error of what o gives, summed over its outputs."""
        each = self.bases if bases is None else bases
        turn = torch.block_diag(*each.repeat_interleave(self.head_count // self.group_count, dim=0))
        read = self.mixed @ turn[:, first_of_heads(self.head_count, HEAD_DIM, kept)]
        off = self.mixed @ self.output.T - read @ self.merged(kept, bases).columns.T
        return float(off.pow(2).sum(dim=1).mean())


@pytest.mark.parametrize(("head_count", "group_count"), [(4, 4), (6, 2), (4, 1)])
def test_nothing_is_lost_at_full_width_and_less_the_more_stay(head_count: int, group_count: int) -> None:
    drawn = Drawn(head_count, group_count)
    errors = [drawn.error(kept) for kept in range(1, HEAD_DIM + 1)]
    assert errors[-1] < 1e-12 * errors[0]
    assert errors == sorted(errors, reverse=True)
    product = drawn.merged(HEAD_DIM)
    for head in range(head_count):
        group = head // (head_count // group_count)
        own, its = slice(head * HEAD_DIM, (head + 1) * HEAD_DIM), slice(group * HEAD_DIM, (group + 1) * HEAD_DIM)
        wanted = drawn.output[:, own] @ drawn.value[its]
        assert torch.allclose(product.columns[:, own] @ product.rows[its], wanted, atol=1e-8)


def test_of_one_head_the_error_is_what_the_spectrum_leaves() -> None:
    drawn = Drawn(1, 1)
    values = torch.linalg.eigvalsh(drawn.output @ drawn.gram @ drawn.output.T).flip(0)
    for kept in (1, 3, 5):
        # The least squares have a ridge.
        assert drawn.error(kept) == pytest.approx(float(values[kept:].sum()), abs=1e-4 * float(values.sum()))


@pytest.mark.parametrize(("head_count", "group_count"), [(4, 4), (6, 2)])
def test_other_directions_lose_more(head_count: int, group_count: int) -> None:
    drawn = Drawn(head_count, group_count)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        other = torch.linalg.qr(torch.randn(group_count, HEAD_DIM, HEAD_DIM, generator=generator).double())[0]
        assert drawn.error(3) < drawn.error(3, other)


@pytest.fixture(params=["llama", "qwen2"])
def model(request: pytest.FixtureRequest, prepare: Callable[[str], Tiny]) -> Tiny:
    return prepare(request.param)


def logits(loaded: LoadedModel) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = loaded.model(torch.arange(7, 39)[None]).logits
    return found


def test_a_model_with_all_but_few_directions_is_nearly_the_dense_one(model: Tiny) -> None:
    loaded, stats = model
    head_dim = loaded.spec.blocks[0].head_dim
    off = [
        float(
            (
                logits(compress_model(loaded, few_values(loaded, kept), stats, progress=NullProgress()))
                - logits(loaded)
            ).norm()
        )
        for kept in (1, head_dim // 2, head_dim - 1)
    ]
    assert off[2] < off[1] < off[0]


def test_one_matrix_of_each_site_is_stored_and_loaded(model: Tiny, tmp_path: Path) -> None:
    loaded, stats = model
    recipe = few_values(loaded, 4)
    compressed = compress_model(loaded, recipe, stats, progress=NullProgress())
    block, spec = loaded.adapter.blocks(compressed.model)[0], loaded.spec.blocks[0]
    rows, columns = loaded.adapter.site(block, "v"), loaded.adapter.site(block, "o")
    assert isinstance(rows, HeadRows)
    assert isinstance(columns, HeadColumns)
    assert rows.right.shape == (4 * spec.num_kv_heads, loaded.spec.hidden_size)
    assert columns.left.shape == (loaded.spec.hidden_size, 4 * spec.num_heads)
    stored = sum({id(value): value.numel() for value in compressed.model.parameters()}.values())
    assert stored == edit_shapes(loaded.spec, recipe).parameter_count < loaded.spec.parameter_count
    save_hf(compressed, recipe, tmp_path / "hf")
    again = load(tmp_path / "hf")
    assert torch.equal(logits(again), logits(compressed))


@pytest.mark.parametrize("rounding", ["nearest", "gptq"])
def test_what_is_stored_is_rounded_and_the_places_are_not(tiny_llama: Tiny, rounding: str) -> None:
    loaded, stats = tiny_llama
    recipe = replace(few_values(loaded, 4, kernel="int8_b32_a0"), rounding=rounding)
    compressed = compress_model(loaded, recipe, stats, progress=NullProgress())
    plain = compress_model(loaded, few_values(loaded, 4), stats, progress=NullProgress())
    for at, role, name in ((0, "v", "right"), (2, "o", "left")):
        found, exact = (
            loaded.adapter.site(loaded.adapter.blocks(each.model)[at], role)  # type: ignore[arg-type]
            for each in (compressed, plain)
        )
        ours, wanted = getattr(found, name), getattr(exact, name)
        assert not torch.equal(ours, wanted)
        assert float((ours - wanted).abs().max()) < 0.02 * float(wanted.abs().max())
    assert isinstance(found, HeadColumns)
    assert set(found.right.flatten().tolist()) == {0.0, 1.0}


def test_refit_keeps_the_form(tiny_llama: Tiny) -> None:
    loaded, stats = tiny_llama
    compressed = compress_model(loaded, replace(few_values(loaded, 3), refit=True), stats, progress=NullProgress())
    assert isinstance(loaded.adapter.site(loaded.adapter.blocks(compressed.model)[2], "o"), HeadColumns)


def test_adapters_change_what_is_stored_alone(tiny_llama: Tiny) -> None:
    loaded, stats = tiny_llama
    compressed = compress_model(loaded, few_values(loaded, 4), stats, progress=NullProgress())
    with adapters(compressed, seed=0) as parameters:
        for value in parameters.values():
            value.data.fill_(0.01)
    block = loaded.adapter.blocks(compressed.model)[0]
    rows, columns = loaded.adapter.site(block, "v"), loaded.adapter.site(block, "o")
    assert isinstance(rows, HeadRows)
    assert isinstance(columns, HeadColumns)
    assert set(rows.left.flatten().tolist()) == set(columns.right.flatten().tolist()) == {0.0, 1.0}
    before = compress_model(loaded, few_values(loaded, 4), stats, progress=NullProgress())
    first = loaded.adapter.site(loaded.adapter.blocks(before.model)[0], "v")
    assert isinstance(first, HeadRows)
    assert not torch.equal(first.right, rows.right)


def test_the_loss_of_a_number_of_values_is_what_the_outputs_lose() -> None:
    drawn = Drawn(6, 2)
    found = merged_losses(drawn.output, drawn.gram, range(1, HEAD_DIM), bases=drawn.bases)
    assert found == pytest.approx([drawn.error(kept) for kept in range(1, HEAD_DIM)], rel=1e-6)


def test_few_values_are_chosen_where_they_lose_less(tiny_llama: Tiny) -> None:
    loaded, stats = tiny_llama
    # Heads whose values lie in three directions: more would be wasted, and less harms.
    bent = dataclasses.replace(loaded, model=copy.deepcopy(loaded.model))
    spec = loaded.spec.blocks[1]
    output = loaded.adapter.site(loaded.adapter.blocks(bent.model)[1], "o")
    assert isinstance(output, torch.nn.Linear)
    weight = output.weight.detach().clone()
    weight[:, [place for place in range(weight.shape[1]) if place % spec.head_dim >= 3]] *= 1e-4
    output.weight = torch.nn.Parameter(weight, requires_grad=False)
    stats = dataclasses.replace(stats, output_gram={})
    request = rank_request(bent, stats, 0.93)
    recipe = values_recipe(request)
    forms = {edit.name: (edit.form, edit.rank) for edit in recipe.sites}
    assert forms["blocks.1.v"] == ("head_rows", 3 * spec.num_kv_heads)
    assert forms["blocks.1.o"] == ("head_columns", 3 * spec.num_heads)
    compressed = compress_model(bent, recipe, stats, progress=NullProgress())
    assert compressed.spec.parameter_count == size(request, recipe)


def test_one_matrix_for_all_three_has_no_values_of_its_own(prepare: Callable[[str], Tiny]) -> None:
    loaded, stats = prepare("gpt2")
    with pytest.raises(UsageError, match="are one matrix"):
        values_recipe(rank_request(loaded, stats, 0.9))
