"""Solving until the answer stays where its prices were taken.

What building taught is not a sum over edits, so a linear solver works with prices near one region (`predict.quality`).
Its answer may lie elsewhere: there they are taken again.
"""

from collections.abc import Callable
from typing import TypeVar

from edgeprune.pipeline.evaluations import edits_hash
from edgeprune.schema.recipe import Recipe

__all__ = ["settle"]

Answer = TypeVar("Answer")


def settle(
    solve: Callable[[Recipe | None], Answer],
    recipe_of: Callable[[Answer], Recipe | None],
    *,
    rounds: int,
    is_good: Callable[[Answer], bool] = lambda answer: False,
) -> tuple[Answer, Recipe | None]:
    """The last answer, and the region it was solved near.

    Args:
        solve: solves near a region; None is the mean of the recipes that were built.
        recipe_of: what an answer takes; None where there is none, which ends it.
        rounds: searches at most after the first.
        is_good: whether an answer needs no other region.
    """
    region: Recipe | None = None
    answer = solve(region)
    for _ in range(rounds):
        recipe = recipe_of(answer)
        if recipe is None or is_good(answer):
            break
        if region is not None and edits_hash(recipe) == edits_hash(region):
            break
        region = recipe
        answer = solve(region)
    return answer, region
