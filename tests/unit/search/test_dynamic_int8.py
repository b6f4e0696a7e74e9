"""Dynamic int8 is on the menu of sites, where the device timed it and calibration scored it, and never of tables."""

import numpy as np

from edgeprune.predict.cost import CostModel
from edgeprune.predict.quality import QualityModel
from edgeprune.schema.budget import Budget
from edgeprune.schema.recipe import Recipe
from edgeprune.search.ladders import Ladders
from edgeprune.search.locks import Holds
from edgeprune.search.problem import Problem
from edgeprune.search.solve import search
from tests.unit.search.builders import make_device, make_scores, make_spec, make_workload

SPEC = make_spec(blocks=3)
SITES = [site.name for block in SPEC.blocks for site in block.sites]
SCORED = ("fp32", "dynamic_int8")


def problem(*, timed: tuple[str, ...] = SCORED, is_datasheet: bool = False, outliers: tuple[str, ...] = ()) -> Problem:
    scores, arrays = make_scores(SPEC, kernels=SCORED)
    for name in outliers:
        arrays[f"kernel_loss/{name}"][SCORED.index("dynamic_int8")] = np.nan
    workload = make_workload(SPEC)
    return Problem(
        spec=SPEC,
        scores=scores,
        cost_model=CostModel(make_device(kernels=timed, is_datasheet=is_datasheet), SPEC, workload),
        quality_model=QualityModel(SPEC, scores, arrays),
        budget=Budget(disk_bytes=250_000),
        context_tokens=workload.context_tokens,
        seed=0,
    )


def chosen(found: Problem, arrays: dict[str, np.ndarray]) -> Recipe:
    result = search(
        SPEC,
        found.scores,
        arrays,
        cost_model=found.cost_model,
        quality_model=found.quality_model,
        budget=found.budget,
        workload=make_workload(SPEC),
        device_name="bench",
        seed=0,
    )
    assert result.chosen is not None, result.infeasible
    return result.chosen.recipe


def test_it_is_offered_to_sites_where_it_was_timed_and_not_to_tables() -> None:
    menu = Ladders(problem(), Holds(SPEC, ()))
    assert "dynamic_int8" in menu.site_kernels(SITES[0])
    assert menu.table_kernels() == ["fp32"]
    assert Ladders(problem(timed=("fp32",)), Holds(SPEC, ())).kernels == ["fp32"]
    assert Ladders(problem(is_datasheet=True), Holds(SPEC, ())).kernels == ["fp32"]


def test_a_site_with_outliers_takes_another_kernel() -> None:
    found = problem(outliers=(SITES[0],))
    _, arrays = make_scores(SPEC, kernels=SCORED)
    kernels = {edit.name: edit.kernel for edit in chosen(found, arrays).sites}
    assert "dynamic_int8" in kernels.values()
    assert kernels.get(SITES[0], "fp32") == "fp32"
