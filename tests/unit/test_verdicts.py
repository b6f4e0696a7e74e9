"""Several verdicts as one."""

import itertools

import pytest

from edgeprune.schema.base import Verdict, worst_verdict


@pytest.mark.parametrize(
    ("verdicts", "worst"),
    [
        (("met", "met"), "met"),
        (("met", "unmeasured"), "unmeasured"),
        (("met", "not_met"), "not_met"),
        (("unmeasured", "not_met", "met"), "not_met"),
    ],
)
def test_the_worst_speaks_for_all_in_any_order(verdicts: tuple[Verdict, ...], worst: Verdict) -> None:
    assert {worst_verdict(order) for order in itertools.permutations(verdicts)} == {worst}
