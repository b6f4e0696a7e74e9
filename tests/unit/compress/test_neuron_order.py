"""Neurons in the order of pivot forms: the MLP computes the same, and no row order is left to store."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeprune.compress.apply import compress_model
from edgeprune.compress.factored import FactoredLinear
from edgeprune.compress.neuron_order import Mlp, order_neurons
from edgeprune.compress.passes import linear
from edgeprune.compress.pivoted import PivotedLinear, pivot
from edgeprune.schema.events import NullProgress
from edgeprune.schema.recipe import SiteEdit
from tests.unit.compress.recipes import Tiny, no_edit

HIDDEN, NEURONS = 24, 40


def _site(kind: int | str, out_features: int, in_features: int, seed: int) -> nn.Module:
    """A pivot form of that rank, `factors` of rank 6, or `dense`; with a bias."""
    generator = torch.Generator().manual_seed(seed)
    bias = torch.randn(out_features, generator=generator)
    if kind == "dense":
        return linear(torch.randn(out_features, in_features, generator=generator), bias)
    rank = 6 if kind == "factors" else int(kind)
    left = torch.randn(out_features, rank, generator=generator, dtype=torch.float64)
    right = torch.randn(rank, in_features, generator=generator, dtype=torch.float64)
    if kind == "factors":
        return FactoredLinear(right.float(), left.float(), bias)
    parts = pivot(right, left)
    return PivotedLinear(parts.rows.float(), parts.coefficients.float(), parts.order, bias)


def _output(mlp: Mlp, inputs: Tensor) -> Tensor:
    gate = functional.silu(mlp["gate"](inputs)) if "gate" in mlp else 1.0
    outputs: Tensor = mlp["down"](gate * mlp["up"](inputs))
    return outputs


@pytest.mark.parametrize("down", ["dense", "factors", 7])
@pytest.mark.parametrize(("gate", "up"), [(12, "dense"), ("factors", 9), (12, 5), (5, 12), (8, 8), (None, 10), (1, 23)])
def test_the_mlp_computes_the_same_without_row_orders(gate: int | str | None, up: int | str, down: int | str) -> None:
    mlp: Mlp = {"up": _site(up, NEURONS, HIDDEN, 1), "down": _site(down, HIDDEN, NEURONS, 2)}
    if gate is not None:
        mlp["gate"] = _site(gate, NEURONS, HIDDEN, 3)
    found = order_neurons(mlp)
    assert found is not None
    ordered, neurons, again = found
    inputs = torch.randn(5, HIDDEN, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(_output(ordered, inputs), _output(mlp, inputs), rtol=1e-3, atol=2e-2)
    assert sorted(neurons.tolist()) == list(range(NEURONS))
    for role in ("gate", "up"):
        module = ordered.get(role)
        assert not isinstance(module, PivotedLinear) or module.order is None
    counts = [
        sum(part.numel() for site in modules.values() for part in site.parameters()) for modules in (mlp, ordered)
    ]
    assert counts[0] == counts[1]
    both = isinstance(mlp.get("gate"), PivotedLinear) and isinstance(mlp["up"], PivotedLinear)
    assert (again is not None) == both


def test_an_mlp_without_pivot_forms_of_neurons_is_left_alone() -> None:
    mlp: Mlp = {"up": _site("factors", NEURONS, HIDDEN, 1), "down": _site(7, HIDDEN, NEURONS, 2)}
    assert order_neurons(mlp) is None


@pytest.mark.parametrize("kernel", ["fp32", "int8_b32_a4"])
def test_a_whole_model_does_not_mind(tiny: Tiny, kernel: str) -> None:
    """Nearly full rank on every neuron site: close to the dense model, in any order of neurons."""
    loaded, stats = tiny
    roles = [role for role in ("gate", "up") if role in loaded.adapter.roles]
    sites = tuple(
        SiteEdit(name=f"blocks.1.{role}", rank=60 - 8 * at, form="pivot", kernel=kernel)
        for at, role in enumerate(roles)
    )
    edited = compress_model(loaded, no_edit(loaded, sites=sites), stats, progress=NullProgress())
    factors = tuple(SiteEdit(name=site.name, rank=site.rank, kernel="fp32", form="factors") for site in sites)
    plain = compress_model(loaded, no_edit(loaded, sites=factors), stats, progress=NullProgress())
    ids = torch.arange(32)[None]
    with torch.no_grad():
        found, expected = edited.model(ids).logits, plain.model(ids).logits
    tolerance = 1e-4 if kernel == "fp32" else 0.05
    assert float((found - expected).abs().max()) < tolerance * float(expected.abs().max())
