"""Choices with an 8-bit cache are those that building them anew gives."""

import dataclasses

import pytest
from msgspec.structs import replace

from edgeprune.schema.budget import Budget
from edgeprune.search.other_cache import with_cache_of
from edgeprune.search.problem import Price, Problem
from edgeprune.search.resources import Paid
from edgeprune.search.space import build_space
from edgeprune.shapes import with_kv_bits
from tests.unit.search.test_gaps import small_problem


def with_8_bits(problem: Problem) -> Problem:
    return dataclasses.replace(problem, spec=replace(problem.spec, blocks=with_kv_bits(problem.spec.blocks, 8)))


def paid(price: Price | None) -> Paid | None:
    return None if price is None else Paid.of(price)


@pytest.mark.parametrize("budget", [Budget(memory_bytes=10**9), Budget(first_token_s=1.0, latency_s=1.0)])
@pytest.mark.parametrize("has_groups", [True, False])
def test_the_same_options_at_the_same_prices_as_built_anew(budget: Budget, *, has_groups: bool) -> None:
    problem = small_problem(0, budget)
    if not has_groups:
        problem = dataclasses.replace(problem, scores=replace(problem.scores, group_counts=()))
    other = with_8_bits(problem)
    found, anew = with_cache_of(other, build_space(problem), problem), build_space(other)
    assert found.groups == anew.groups
    assert found.has_time == anew.has_time
    for one, two in zip(found.columns, anew.columns, strict=True):
        assert dataclasses.replace(one, price=None) == dataclasses.replace(two, price=None)
        assert paid(one.price) == paid(two.price)
    before = [paid(column.price) for column in build_space(problem).columns]
    assert before != [paid(column.price) for column in found.columns]  # the cache is paid somewhere
