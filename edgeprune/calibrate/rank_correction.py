"""Correction of the rank losses, by kind of site and by depth.

One factor for all sites is not enough here: on a 14-million-parameter Llama truncation of q and k costs 0.4 of what is
predicted, of gate and up 2.2 times, and of the first block 3.4 times (what it cuts from frequent tokens adds up along
the sequence). So groups of sites by role and by depth are truncated for real, each apart, and

    factor(site) = c * R(role group) * B(depth group),   R, B = measured / predicted of the group            (1)

with c such that the corrected losses of truncating every site at once add up to what that was measured to cost. Rank
losses of plain SVD get the one factor of truncating every site.
"""

from collections.abc import Callable

from edgeprune.calibrate.correction import Correction, measure_correction
from edgeprune.calibrate.general_text import GeneralText
from edgeprune.calibrate.rank_scores import RANK_METHODS, factored_weights
from edgeprune.calibrate.selection import Selection
from edgeprune.calibrate.site_weights import SiteWeight
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.events import Progress
from edgeprune.schema.scores import ScoreArrays
from edgeprune.shapes import break_even_rank

__all__ = ["correct_rank_losses", "depth_group", "relative_factors", "role_group"]

_SHARE = 0.7
"""Share of a site's parameters its factors keep in the edits that are measured."""
_LARGEST_RELATIVE = 4.0
"""A group's factor beyond this, either way, is taken for noise: groups cost as little as 0.005 nats."""
_ROLE_GROUPS = {
    "q": "q and k", "k": "q and k", "qkv": "q and k", "v": "v and o", "o": "v and o", "gate": "gate and up",
    "up": "gate and up", "down": "down",
}  # fmt: skip
_DEPTH_GROUPS = 3

Groups = dict[str, list[SiteWeight]]


def correct_rank_losses(
    loaded: LoadedModel,
    sites: list[SiteWeight],
    arrays: ScoreArrays,
    selection: Selection,
    *,
    progress: Progress,
    general: GeneralText | None = None,
) -> list[str]:
    """Scale the rank losses in `arrays`, and those of `general`, in place; gives a note for each thing measured.

    On general text only the sum over all sites is measured; sites relate to each other as on the domain.
    """
    return [
        correction.note
        for method in RANK_METHODS
        for correction in _correct_method(loaded, sites, arrays, selection, method, progress, general)
    ]


def _correct_method(
    loaded: LoadedModel,
    sites: list[SiteWeight],
    arrays: ScoreArrays,
    selection: Selection,
    method: str,
    progress: Progress,
    general: GeneralText | None,
) -> list[Correction]:
    family = f"rank_loss/{method}"
    weights = {site.name: factored_weights(site, _rank(site), method) for site in sites}
    predicted = {site.name: float(arrays[f"{family}/{site.name}"][_rank(site)]) for site in sites}
    elsewhere = (
        {}
        if general is None
        else {site.name: float(general.arrays[f"{family}/{site.name}"][_rank(site)]) for site in sites}
    )

    def measure(label: str, group: list[SiteWeight], general: GeneralText | None = None) -> Correction:
        return measure_correction(
            loaded,
            selection,
            {site.name: weights[site.name] for site in group},
            family=family,
            edit=f"{label} at {_SHARE:.0%} of the parameters",
            predicted=sum(predicted[site.name] for site in group),
            progress=progress,
            general=None if general is None else general.selection,
            general_predicted=None if general is None else sum(elsewhere[site.name] for site in group),
        )

    total = measure("every site", sites, general)
    relative = dict.fromkeys(predicted, 1.0)
    parts: list[Correction] = []
    if method == "lowrank":
        blocks = [site.block for site in sites]
        groupings = (_grouped(sites, role_group), _grouped(sites, lambda site: depth_group(site.block, blocks)))
        measured = [{label: measure(label, group) for label, group in groups.items()} for groups in groupings]
        parts = [correction for groups in measured for correction in groups.values()]
        relative = relative_factors(groupings, measured)
    _distribute(arrays, family, relative, predicted, total.factor)
    if general is not None:
        _distribute(general.arrays, family, relative, elsewhere, total.general_factor)
    return [total, *parts]


def _distribute(
    arrays: ScoreArrays, family: str, relative: dict[str, float], predicted: dict[str, float], factor: float
) -> None:
    """Scale each site by its relative factor so that the predicted sum changes by `factor`."""
    total = sum(predicted.values())
    # Without a prediction above zero there is nothing to distribute.
    spread = sum(relative[name] * predicted[name] for name in predicted) / total if total else 1.0
    for name, share in relative.items():
        arrays[f"{family}/{name}"] = arrays[f"{family}/{name}"] * (factor * share / spread)


def relative_factors(groupings: tuple[Groups, ...], corrections: list[dict[str, Correction]]) -> dict[str, float]:
    """By site: the product over groupings of its group's measured / predicted."""
    factors: dict[str, float] = {}
    for groups, measured in zip(groupings, corrections, strict=True):
        for label, group in groups.items():
            factor = min(_LARGEST_RELATIVE, max(1 / _LARGEST_RELATIVE, measured[label].factor))
            for site in group:
                factors[site.name] = factors.get(site.name, 1.0) * factor  # eq. (1)
    return factors


def role_group(site: SiteWeight) -> str:
    """Sites of like function: `q and k`, `v and o`, `gate and up`, `down`."""
    return _ROLE_GROUPS[site.name.rsplit(".", 1)[1]]


def depth_group(block: int, blocks: list[int]) -> str:
    """The first block is a group of its own; the others form three spans."""
    present = sorted(set(blocks))
    position = present.index(block)
    if position == 0:
        return f"block {block}"
    later = present[1:]
    span = (position - 1) * _DEPTH_GROUPS // len(later)
    members = [other for number, other in enumerate(later) if number * _DEPTH_GROUPS // len(later) == span]
    return f"blocks {members[0]} to {members[-1]}" if len(members) > 1 else f"block {members[0]}"


def _grouped(sites: list[SiteWeight], label: Callable[[SiteWeight], str]) -> Groups:
    groups: Groups = {}
    for site in sites:
        groups.setdefault(label(site), []).append(site)
    return groups


def _rank(site: SiteWeight) -> int:
    out_features, in_features = site.weight.shape
    return max(1, round(_SHARE * break_even_rank(in_features, out_features)))
