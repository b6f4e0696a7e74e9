"""What a technique is asked, and what techniques share: sizes, menus of ranks, refusals.

A technique takes a `Request` and gives the recipe that comes nearest to the request's number of parameters. Most read
scores alone; one that measures finds the loaded model, its statistics and selection text in the request too, and asks
for them with `needed`.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from edgeprune.calibrate.selection import Selection
from edgeprune.calibrate.statistics import CalibrationStats
from edgeprune.compress.allocate import Menu, allocate, largest_total, smallest_total
from edgeprune.errors import UsageError
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.events import NullProgress, Progress
from edgeprune.schema.model import ModelSpec, SiteForm, SiteSpec
from edgeprune.schema.recipe import Recipe
from edgeprune.schema.scores import ScoreArrays, Scores
from edgeprune.shapes import break_even_rank, count_parameters, edit_shapes, site_parameter_count
from edgeprune.units import format_fraction

__all__ = [
    "TOLERANCE",
    "Request",
    "array",
    "fit",
    "needed",
    "rank_menus",
    "rank_options",
    "size",
    "unreachable",
]

TOLERANCE = 0.01
"""A recipe further than this from the fraction asked for is refused, except for whole blocks."""

_RANK_STEP = 8
"""Ranks are multiples of it where a site is at least eight times as wide: kernels work on rows of eight."""

_Given = TypeVar("_Given")


@dataclass(frozen=True, kw_only=True)
class Request:
    """A model, what is known about it, and the number of parameters to come near to."""

    spec: ModelSpec
    scores: Scores
    arrays: ScoreArrays
    target: int
    """Stored parameters to keep."""
    empty: Recipe
    """The recipe without edits: hash, technique, context and seed filled in."""
    stats: CalibrationStats | None = None
    """Statistics of the dense model on the domain's calibration text; None where only scores are at hand."""
    loaded: LoadedModel | None = None
    """The dense model, to be left as it is; None where only scores are at hand."""
    select: Selection | None = None
    """Selection text of the domain; None where only scores are at hand."""
    repair_rank: int | None = None
    """Rank of the operators in the place of dropped blocks; None puts nothing there, as published."""
    rank_form: SiteForm | None = None
    """How ranks are stored; None is what the technique has found best in float32."""
    compensate: bool = True
    """Whether channels that stay take over from those that leave, where the technique does not say."""
    cache: Path | None = None
    """Folder where measurements that hold for every target are kept; None makes them each time."""
    progress: Progress = field(default_factory=NullProgress)
    """Told of every measurement."""


def needed(request: Request, given: _Given | None, what: str) -> _Given:
    """What a technique cannot do without.

    Raises:
        UsageError: it was not given.
    """
    if given is None:
        raise UsageError(
            f"{request.empty.technique} needs {what}, and only scores are at hand; run it on the model itself with "
            f"`edgeprune compress MODEL --technique {request.empty.technique}`."
        )
    return given


def array(request: Request, key: str) -> NDArray[np.float64]:
    """An array of the scores.

    Raises:
        UsageError: the scores do not hold it.
    """
    found = request.arrays.get(key)
    if found is None:
        raise UsageError(f"The scores hold no {key}; calibrate this model again with this EdgePrune.")
    return found


def size(request: Request, recipe: Recipe) -> int:
    """Stored parameters of the model the recipe makes."""
    return edit_shapes(request.spec, recipe).parameter_count


def rank_options(site: SiteSpec, form: SiteForm) -> list[int]:
    """Ranks at which a form holds fewer numbers than the matrix."""
    step = _RANK_STEP if min(site.in_features, site.out_features) >= 8 * _RANK_STEP else 1
    return list(range(step, break_even_rank(site.in_features, site.out_features, form) + 1, step))


def rank_menus(losses: dict[SiteSpec, NDArray[np.float64]], form: SiteForm) -> tuple[list[list[int]], list[Menu]]:
    """For each site the ranks on offer, and their menu, whose last option is the dense matrix.

    Args:
        losses: by site, [min(in, out) + 1] float64: nats per token at every kept rank.
        form: how ranks are stored.
    """
    ranks = [rank_options(site, form) for site in losses]
    menus = []
    for (site, values), options in zip(losses.items(), ranks, strict=True):
        full = min(site.in_features, site.out_features)
        forms = [replace(site, rank=rank, form=form) for rank in options]
        menus.append(
            Menu(
                costs=np.array([site_parameter_count(option) for option in (*forms, site)]),
                losses=values[[*options, full]],
            )
        )
    return ranks, menus


def fit(request: Request, menus: list[Menu]) -> list[int]:
    """Index of the chosen option in each menu, the whole model at most as large as the target.

    Raises:
        UsageError: even the smallest options leave more than the target and the tolerance.
    """
    dense = count_parameters(request.spec)
    fixed = dense - largest_total(menus)
    smallest = fixed + smallest_total(menus)
    if smallest > request.target + TOLERANCE * dense:
        raise unreachable(request, smallest)
    return allocate(menus, request.target - fixed)


def unreachable(request: Request, smallest: int) -> UsageError:
    """The refusal of a target that a technique cannot reach, with the parameters of its smallest model."""
    dense = count_parameters(request.spec)
    return UsageError(
        f"{request.empty.technique} alone cannot keep as little as {format_fraction(request.target / dense)} of the "
        f"parameters; its smallest model keeps {format_fraction(smallest / dense)}. Raise --kept, or use the search, "
        "which combines techniques."
    )
