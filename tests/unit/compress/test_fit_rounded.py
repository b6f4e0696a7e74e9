"""The second part fitted to the rounded first one: less error on the data, and nothing else changed."""

import pytest
import torch
from torch import Tensor

from edgeprune.calibrate.nearest import rounded
from edgeprune.compress.factor_site import factor_site
from edgeprune.compress.fit_rounded import fit_rounded
from edgeprune.compress.pivoted import PivotedLinear
from edgeprune.compress.ranks import Factors, factor_lowrank
from edgeprune.schema.model import SiteForm
from edgeprune.schema.recipe import SiteEdit


def _problem(has_bias: bool) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """A weight [48, 64], inputs with a mean, their gram, and a bias."""
    generator = torch.Generator().manual_seed(0)
    W = torch.randn(48, 64, generator=generator, dtype=torch.float64)
    X = torch.randn(512, 64, generator=generator, dtype=torch.float64)
    X = X * torch.logspace(0, -1.5, 64, dtype=torch.float64) + 0.3
    return W, X, X.T @ X / len(X), torch.linspace(-1, 1, 48, dtype=torch.float64) if has_bias else None


def _outputs(factors: Factors, X: Tensor, kernel: str) -> Tensor:
    right, left = (rounded(part.float(), kernel).double() for part in (factors.right, factors.left))
    products = X @ right.T
    outputs = products @ left.T
    if factors.order is not None:
        outputs = torch.cat([products, outputs], dim=1)[:, factors.order]
    return outputs if factors.bias is None else outputs + factors.bias


@pytest.mark.parametrize("kernel", ["int4_b32_a4", "int8_b32_a4", "dynamic_int8"])
@pytest.mark.parametrize("form", ["factors", "pivot"])
@pytest.mark.parametrize("has_bias", [False, True])
def test_what_is_stored_comes_nearer_to_the_weight_on_the_data(kernel: str, form: SiteForm, has_bias: bool) -> None:
    W, X, gram, bias = _problem(has_bias)
    made = {}
    for stored in (kernel, "fp16"):  # balanced too, and not fitted
        edit = SiteEdit(name="blocks.0.q", rank=46, kernel=stored, form=form)
        floats = None if bias is None else bias.float()
        made[stored] = factor_site(edit, W.float(), floats, gram=gram, mean=X.mean(0))
    expected = X @ W.T if bias is None else X @ W.T + bias
    fitted, plain = (float((_outputs(part, X, kernel) - expected).square().mean()) for part in made.values())
    assert fitted < 0.97 * plain
    torch.testing.assert_close(made[kernel].right, made["fp16"].right)
    assert made[kernel].left.shape == made["fp16"].left.shape


def test_it_is_the_least_squares_answer() -> None:
    W, _, gram, _ = _problem(False)
    factors = factor_lowrank(W, gram, 12, is_balanced=True)
    found = fit_rounded(factors, W, "int4_b32_a4", gram=gram, mean=gram[0], bias=None)
    right = rounded(factors.right.float(), "int4_b32_a4").double()
    best = torch.linalg.solve(right @ gram @ right.T, W @ gram @ right.T, left=False)
    torch.testing.assert_close(found.left, best, rtol=1e-2, atol=1e-2)


def test_inputs_that_are_never_seen_leave_the_factors_as_they_are() -> None:
    W, _, gram, _ = _problem(False)
    factors = factor_lowrank(W, gram, 12)
    silent = torch.zeros_like(gram)
    assert fit_rounded(factors, W, "int8_b32_a4", gram=silent, mean=silent[0], bias=None) is factors


def test_the_pivot_rows_stay_rows_of_the_matrix() -> None:
    W, X, gram, _ = _problem(False)
    edit = SiteEdit(name="blocks.0.q", rank=20, kernel="int8_b32_a4", form="pivot")
    parts = factor_site(edit, W.float(), None, gram=gram, mean=X.mean(0))
    assert parts.order is not None
    module = PivotedLinear(parts.right, parts.left, parts.order)
    exact = factor_lowrank(W.float(), gram, 20, is_balanced=True)
    places = parts.order.argsort()[:20]
    torch.testing.assert_close(module.product()[places], (exact.left @ exact.right)[places], rtol=1e-4, atol=1e-4)
