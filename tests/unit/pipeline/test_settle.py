"""Solving stops where the answer stays, where it is good, where there is none, and after the rounds allowed."""

from edgeprune.pipeline.settle import settle
from edgeprune.schema.recipe import Recipe

FIRST, SECOND, THIRD = (Recipe(model_hash="0" * 64, context_tokens=64, drop_blocks=(block,)) for block in range(3))


class Solver:
    """Answers by region, and what it was asked."""

    def __init__(self, answers: dict[Recipe | None, Recipe | None]) -> None:
        self.answers = answers
        self.asked: list[Recipe | None] = []

    def __call__(self, region: Recipe | None) -> Recipe | None:
        self.asked.append(region)
        return self.answers[region]


def itself(answer: Recipe | None) -> Recipe | None:
    return answer


def test_it_stops_where_the_answer_is_the_region_it_was_solved_near() -> None:
    solver = Solver({None: FIRST, FIRST: SECOND, SECOND: SECOND})
    assert settle(solver, itself, rounds=9) == (SECOND, SECOND)
    assert solver.asked == [None, FIRST, SECOND]


def test_it_stops_after_the_rounds_allowed_where_answers_go_round_in_a_circle() -> None:
    solver = Solver({None: FIRST, FIRST: SECOND, SECOND: THIRD, THIRD: FIRST})
    assert settle(solver, itself, rounds=4) == (SECOND, FIRST)
    assert solver.asked == [None, FIRST, SECOND, THIRD, FIRST]
    assert settle(solver, itself, rounds=0) == (FIRST, None)


def test_it_stops_where_an_answer_is_good_or_there_is_none() -> None:
    solver = Solver({None: FIRST, FIRST: SECOND, SECOND: THIRD})
    assert settle(solver, itself, rounds=9, is_good=lambda answer: answer == SECOND) == (SECOND, FIRST)
    solver = Solver({None: FIRST, FIRST: None})
    assert settle(solver, itself, rounds=9) == (None, FIRST)
