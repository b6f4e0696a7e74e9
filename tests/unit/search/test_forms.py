"""Storage forms of a rank: both on the menu where they pay, locked, and named where a choice is shown."""

import pytest

from edgeprune.predict.cost import CostModel
from edgeprune.predict.quality import FORM_KERNEL_FACTORS, QualityModel
from edgeprune.schema.budget import Budget
from edgeprune.schema.lock import parse_locks
from edgeprune.schema.model import SiteForm
from edgeprune.schema.recipe import SiteEdit
from edgeprune.search.alternatives import _form_label
from edgeprune.search.ladders import Ladders
from edgeprune.search.locks import Holds
from edgeprune.search.problem import Problem
from edgeprune.search.solve import search
from edgeprune.search.space import build_space
from edgeprune.shapes import break_even_rank
from tests.unit.search.builders import make_device, make_scores, make_spec, make_workload

SPEC = make_spec(blocks=3)
SITE = SPEC.blocks[0].sites[0]
ALL_FLOAT = ("*=fp32", "table=fp32")


def problem(*locks: str, rank_form: SiteForm | None = None, disk_bytes: int = 400_000) -> Problem:
    scores, arrays = make_scores(SPEC)
    workload = make_workload(SPEC)
    return Problem(
        spec=SPEC,
        scores=scores,
        cost_model=CostModel(make_device(), SPEC, workload),
        quality_model=QualityModel(SPEC, scores, arrays),
        budget=Budget(disk_bytes=disk_bytes),
        context_tokens=workload.context_tokens,
        seed=0,
        locks=parse_locks(locks),
        rank_form=rank_form,
    )


def chosen_forms(*locks: str) -> tuple[set[str], float]:
    found = problem(*locks)
    result = search(
        SPEC,
        found.scores,
        make_scores(SPEC)[1],
        cost_model=found.cost_model,
        quality_model=found.quality_model,
        budget=found.budget,
        workload=make_workload(SPEC),
        device_name="bench",
        seed=0,
        locks=found.locks,
    )
    assert result.chosen is not None, result.infeasible
    forms = {edit.form for edit in result.chosen.recipe.sites if edit.rank is not None}
    return {*forms}, result.chosen.loss_increase_nats


def test_the_pivot_form_is_offered_at_ranks_at_which_factors_would_store_more() -> None:
    found = problem()
    ranks = Ladders(found, Holds(SPEC, ())).ranks(SITE)
    limit = break_even_rank(SITE.in_features, SITE.out_features)
    assert {form for rank, form in ranks if rank <= limit} == {"factors", "pivot"}
    assert {form for rank, form in ranks if rank > limit} == {"pivot"}
    assert max(ranks)[0] < min(SITE.in_features, SITE.out_features)
    assert sum(form == "pivot" for _, form in ranks) <= 8
    alone = problem(rank_form="factors")
    assert {form for _, form in Ladders(alone, Holds(SPEC, ())).ranks(SITE)} == {"factors"}


def test_in_floats_fewer_bytes_are_taken_and_rounding_is_priced_by_form() -> None:
    model = problem().quality_model
    dense = model.kernel_loss(SITE.name, "int8_b32_a4")
    assert dense
    for form, factor in FORM_KERNEL_FACTORS.items():
        assert model.kernel_loss(SITE.name, "int8_b32_a4", form=form) == pytest.approx(factor * dense)
        assert model.kernel_loss(SITE.name, "fp32", form=form) == 0.0
    edits = [column.site for column in build_space(problem(*ALL_FLOAT)).columns if column.site is not None]
    assert {edit.form for edit in edits if edit.rank is not None} == {"factors", "pivot"}


def test_locks_hold_ranks_to_a_form() -> None:
    free, loss = chosen_forms(*ALL_FLOAT)
    factors, factors_loss = chosen_forms(*ALL_FLOAT, "*=factors")
    pivots, pivots_loss = chosen_forms(*ALL_FLOAT, "*=pivot")
    assert "pivot" in free
    assert factors == {"factors"}
    assert pivots == {"pivot"}
    assert loss <= min(factors_loss, pivots_loss) + 1e-9
    assert loss < factors_loss


def test_a_choice_names_the_form() -> None:
    edit = SiteEdit(name=SITE.name, kernel="int8_b32_a4", rank=32, form="pivot")
    assert _form_label(edit) == "int8_b32_a4 rank 32 pivot"
    assert _form_label(SiteEdit(name=SITE.name, rank=32, method="laser")) == "fp32 rank 32 laser"


def test_the_pivot_form_in_integers_is_offered_where_it_is_asked_for() -> None:
    def pivot_kernels(*locks: str, rank_form: SiteForm | None = None) -> set[str]:
        space = build_space(problem(*locks, rank_form=rank_form))
        edits = [column.site for column in space.columns if column.site is not None and column.site.rank is not None]
        return {edit.kernel for edit in edits if edit.form == "pivot"}

    assert pivot_kernels() <= {"fp32", "fp16"}
    assert "int8_b32_a4" in pivot_kernels("*=pivot", "*=int8")
    assert "int8_b32_a4" in pivot_kernels("*=int8", rank_form="pivot")
