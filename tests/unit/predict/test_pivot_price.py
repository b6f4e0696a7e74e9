"""Prices of the pivot form: its own parts, and what putting rows in order costs."""

import pytest
from msgspec.structs import replace

from edgeprune.predict.cost import CostModel
from edgeprune.predict.disk import site_tensor_bytes
from edgeprune.predict.kernel_table import KernelTable
from edgeprune.predict.latency import LatencyModel
from edgeprune.predict.structure import site_parts
from edgeprune.schema.device import KernelTime
from edgeprune.schema.model import SiteForm, SiteSpec
from tests.unit.search.builders import make_device, make_spec, make_workload

FORMS: tuple[SiteForm, ...] = ("factors", "pivot")

SITE = SiteSpec(name="blocks.0.down", role="down", in_features=256, out_features=704, has_bias=True)


def _point(in_features: int, out_features: int, time_s: float) -> KernelTime:
    return KernelTime(
        kernel="fp32",
        rows=1,
        in_features=in_features,
        out_features=out_features,
        rank=None,
        is_cached=True,
        time_s=time_s,
    )


def test_it_stores_its_parts_the_bias_and_the_row_order() -> None:
    pivot = replace(SITE, form="pivot")
    neurons = replace(pivot, role="gate")
    assert site_tensor_bytes(SITE, kernel="fp32", rank=100) == 4 * (100 * (256 + 704) + 704)
    assert site_tensor_bytes(pivot, kernel="fp32", rank=100) == 4 * (100 * (256 + 704 - 100) + 2 * 704)
    assert site_tensor_bytes(pivot, kernel="fp32", rank=None) == site_tensor_bytes(SITE, kernel="fp32", rank=None)
    assert site_tensor_bytes(neurons, kernel="fp32", rank=100) == 4 * (100 * (256 + 704 - 100) + 704)
    factors, parts, joined = (site_parts("fp32", replace(site, rank=100)) for site in (SITE, pivot, neurons))
    assert (parts.nodes - factors.nodes, joined.nodes - factors.nodes) == (4, 1)
    assert parts.graph_bytes > joined.graph_bytes > factors.graph_bytes


def test_its_products_are_timed_by_their_own_shapes() -> None:
    points = [_point(256, 704, 8e-5), _point(256, 100, 1e-5), _point(100, 704, 4e-5), _point(100, 604, 3e-5)]
    table = KernelTable(points)
    times = {}
    for form in FORMS:
        found = table.time_s("fp32", rows=1, in_features=256, out_features=704, rank=100, is_cached=True, form=form)
        assert found is not None
        times[form] = found.value
    assert times == {"factors": 5e-5, "pivot": 4e-5}


def test_putting_rows_in_order_costs_a_look_up_an_output_and_a_move_an_element() -> None:
    device = make_device()
    assert device.overhead is not None
    model = LatencyModel(replace(device, overhead=replace(device.overhead, norm_s_per_element=1e-9)))
    one, many = model.reordering(700, ((1, 0),)), model.reordering(700, ((128, 0),))
    assert one.value == pytest.approx(700 * 6.5e-9)
    assert many.value - one.value == pytest.approx(700 * 127 * 0.5e-9)
    assert model.reordering(700, ((128, 0), (128, 128))).value == pytest.approx(2 * many.value)
    spec = make_spec(blocks=1)
    site, workload = spec.blocks[0].sites[0], make_workload(spec)
    prices = CostModel(device, spec, workload)
    factors, pivot = (prices.site_price(replace(site, form=form), kernel="fp32", rank=8) for form in FORMS)
    assert pivot.parameter_count == factors.parameter_count - 8 * 8
    assert pivot.decode_high_s(1.0) != factors.decode_high_s(1.0)
