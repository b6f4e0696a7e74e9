"""The pivot form: the same matrix as two factors, in fewer numbers, with coefficients of about one at most."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from edgeprune.compress.apply import compress_model
from edgeprune.compress.laser import factor_laser
from edgeprune.compress.load import load
from edgeprune.compress.pivoted import PivotedLinear, Pivots, pivot
from edgeprune.compress.ranks import factor_lowrank
from edgeprune.compress.save import save_hf
from edgeprune.errors import ModelError
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.events import NullProgress
from edgeprune.schema.recipe import Recipe, SiteEdit
from edgeprune.shapes import edit_shapes
from tests.unit.compress.recipes import Tiny, no_edit


def _weight(out_features: int, in_features: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A weight and the gram of correlated inputs, both float64."""
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(out_features, in_features, generator=generator, dtype=torch.float64)
    X = torch.randn(4 * in_features, in_features, generator=generator, dtype=torch.float64)
    X = X @ torch.diag(torch.logspace(0, -2, in_features, dtype=torch.float64))
    return W, X.T @ X / len(X)


def _matrix(parts: Pivots) -> Tensor:
    return torch.cat([parts.rows, parts.coefficients @ parts.rows])[parts.order]


@pytest.mark.parametrize(("out_features", "in_features"), [(40, 64), (64, 40), (48, 48)])
@pytest.mark.parametrize("rank", [1, 7, 20, 39])
def test_it_is_the_matrix_of_the_factors(out_features: int, in_features: int, rank: int) -> None:
    W, gram = _weight(out_features, in_features)
    factors = factor_lowrank(W, gram, rank)
    parts = pivot(factors.right, factors.left)
    expected = factors.left @ factors.right
    torch.testing.assert_close(_matrix(parts), expected, rtol=1e-9, atol=1e-9)
    assert parts.rows.shape == (rank, in_features)
    assert parts.coefficients.shape == (out_features - rank, rank)
    assert float(parts.coefficients.abs().max()) <= 1.05 + 1e-9
    # The first rows are rows of the matrix itself.
    places = [int((parts.order == at).nonzero()) for at in range(rank)]
    torch.testing.assert_close(parts.rows, expected[places])


def test_the_rows_that_span_the_others_are_found() -> None:
    """Three rows, and sums of them with coefficients below one: those three are the only rows of largest volume."""
    generator = torch.Generator().manual_seed(1)
    base = torch.randn(3, 10, generator=generator, dtype=torch.float64)
    mixing = 0.3 * torch.rand(9, 3, generator=generator, dtype=torch.float64)
    mixing[[2, 5, 6]] = torch.eye(3, dtype=torch.float64)
    parts = pivot(base, mixing)
    torch.testing.assert_close(parts.rows, base)
    torch.testing.assert_close(parts.coefficients, mixing[[0, 1, 3, 4, 7, 8]])


def test_exchanges_bound_the_coefficients_where_the_first_choice_does_not() -> None:
    """Wilkinson's matrix over a row of minus ones: elimination leaves that row out, with a coefficient of 2."""
    size = 40
    below = -torch.tril(torch.ones(size, size, dtype=torch.float64), -1) + torch.eye(size, dtype=torch.float64)
    stack = torch.cat([below, -torch.ones(1, size, dtype=torch.float64)])
    parts = pivot(torch.eye(size, dtype=torch.float64), stack)
    torch.testing.assert_close(_matrix(parts), stack)
    assert float(parts.coefficients.abs().max()) <= 1.05 + 1e-9


def test_a_matrix_of_lower_rank_than_asked_for_has_finite_parts() -> None:
    generator = torch.Generator().manual_seed(2)
    low = torch.randn(20, 2, generator=generator, dtype=torch.float64)
    low = low @ torch.randn(2, 16, generator=generator, dtype=torch.float64)
    factors = factor_laser(low, 6)
    parts = pivot(factors.right, factors.left)
    torch.testing.assert_close(_matrix(parts), low, rtol=1e-7, atol=1e-7)
    silent = pivot(torch.zeros(3, 8, dtype=torch.float64), torch.zeros(5, 3, dtype=torch.float64))
    assert float(_matrix(silent).abs().max()) == 0.0


def test_the_module_computes_the_product_and_stores_rank_squared_numbers_less() -> None:
    W, gram = _weight(24, 40)
    factors = factor_lowrank(W, gram, 15)
    parts = pivot(factors.right, factors.left)
    module = PivotedLinear(parts.rows.float(), parts.coefficients.float(), parts.order, torch.ones(24))
    torch.testing.assert_close(module.product(), factors.left @ factors.right, rtol=1e-4, atol=1e-4)
    X = torch.linspace(-1, 1, 80).view(2, 40)
    torch.testing.assert_close(module(X).double(), X.double() @ module.product().T + 1, rtol=1e-4, atol=1e-4)
    # 15 (24 + 40) would be as many as the dense matrix has; the order is none of the parameters.
    assert sum(parameter.numel() for parameter in module.parameters()) == 15 * (24 + 40 - 15) + 24 < 24 * 40 == 15 * 64
    assert (module.rank, module.in_features, module.out_features) == (15, 40, 24)
    assert PivotedLinear.empty(in_features=40, rank=15, out_features=24, has_bias=False).bias is None


def _recipe(loaded: LoadedModel, kernel: str = "fp32") -> Recipe:
    roles = ("qkv", "o", "down") if "qkv" in loaded.adapter.roles else ("q", "o", "down")
    return no_edit(
        loaded,
        sites=tuple(SiteEdit(name=f"blocks.1.{role}", rank=50, form="pivot", kernel=kernel) for role in roles),
    )


def test_a_model_in_the_pivot_form_has_the_shapes_foretold_and_comes_back_bit_for_bit(
    tiny: Tiny, tmp_path: Path
) -> None:
    loaded, stats = tiny
    recipe = _recipe(loaded, "int8_b32_a4")
    edited = compress_model(loaded, recipe, stats, progress=NullProgress())
    assert edited.spec.parameter_count == edit_shapes(loaded.spec, recipe).parameter_count
    assert edited.spec.parameter_count < loaded.spec.parameter_count  # two factors of rank 50 would be more
    save_hf(edited, recipe, tmp_path / "hf")
    again = load(tmp_path / "hf")
    ids = torch.arange(32)[None]
    with torch.no_grad():
        assert torch.equal(again.model(ids).logits, edited.model(ids).logits)
    assert again.spec == edited.spec
    module = again.adapter.site(again.adapter.blocks(again.model)[1], "down")
    assert isinstance(module, PivotedLinear)
    assert module.rank == 50


def test_both_forms_of_a_rank_are_one_model_before_rounding(tiny_llama: Tiny) -> None:
    loaded, stats = tiny_llama
    ids = torch.arange(32)[None]
    logits = []
    for form in ("factors", "pivot"):
        sites = tuple(
            SiteEdit(name=f"blocks.{block}.{role}", rank=20, form=form)  # type: ignore[arg-type]
            for block in (0, 2)
            for role in ("q", "down")
        )
        edited = compress_model(loaded, no_edit(loaded, sites=sites), stats, progress=NullProgress())
        with torch.no_grad():
            logits.append(edited.model(ids).logits)
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-4, atol=1e-4)


def test_a_damaged_row_order_is_refused(tiny_llama: Tiny, tmp_path: Path) -> None:
    loaded, stats = tiny_llama
    recipe = _recipe(loaded)
    save_hf(compress_model(loaded, recipe, stats, progress=NullProgress()), recipe, tmp_path / "hf")
    path = tmp_path / "hf" / "model.safetensors"
    tensors = load_file(path)
    name = "model.layers.1.mlp.down_proj.order"
    for wrong in (torch.zeros_like(tensors[name]), tensors[name][:-1], tensors[name].float()):
        save_file({**tensors, name: wrong.contiguous()}, path)
        with pytest.raises(ModelError, match="no order of 64 rows"):
            load(tmp_path / "hf")
