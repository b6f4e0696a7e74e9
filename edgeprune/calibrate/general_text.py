"""General text beside the domain's: every edit is made for the domain, and priced on both.

A site's general losses come from the same change of its weight under the general text's second moment and gradients.
Where a site has a bias, edits let it take over the constant part of the error as it is on the domain, so the general
moment is taken around the domain's mean:

    S' = S - m d^T - d m^T + d d^T,   m the general and d the domain's mean of the site's input            (1)
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from edgeprune.calibrate.selection import Selection
from edgeprune.calibrate.site_weights import SiteWeight, site_weights
from edgeprune.calibrate.statistics import CalibrationStats, input_key
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.scores import GENERAL_PREFIX, ScoreArrays

__all__ = ["GeneralText", "general_moment", "general_text"]


@dataclass(frozen=True, kw_only=True)
class GeneralText:
    """What prices an edit on general text, and the losses found so far."""

    selection: Selection
    sites: Mapping[str, SiteWeight]
    """By name: the domain's weights with the general text's moments."""
    arrays: ScoreArrays = field(default_factory=dict)
    """By the domain's keys, without the prefix."""

    def prefixed(self) -> ScoreArrays:
        """The losses under the keys they are stored by."""
        return {f"{GENERAL_PREFIX}{key}": losses for key, losses in self.arrays.items()}


def general_text(
    loaded: LoadedModel, domain: CalibrationStats, general: CalibrationStats, selection: Selection
) -> GeneralText:
    """Moments of the general text, ready to price the domain's edits."""
    blocks = loaded.adapter.blocks(loaded.model)
    biased = {
        site.name: module.bias is not None
        for block, spec in zip(blocks, loaded.spec.blocks, strict=True)
        for site in spec.sites
        if isinstance(module := loaded.adapter.site(block, site.role), nn.Linear)
    }
    sites = {}
    for site in site_weights(loaded, general):
        key = input_key(site.name)
        gram = general_moment(general, domain, key) if biased[site.name] else site.gram
        sites[site.name] = SiteWeight(
            name=site.name,
            block=site.block,
            weight=site.weight,
            gram=gram,
            activation_noise=site.activation_noise,
            output_weight=site.output_weight,
        )
    return GeneralText(selection=selection, sites=sites)


def general_moment(general: CalibrationStats, domain: CalibrationStats, key: str) -> Tensor:
    """[in, in] second moment of the general text around the domain's mean."""
    m, d = general.mean[key], domain.mean[key]
    return general.gram[key] - m.outer(d) - d.outer(m) + d.outer(d)  # eq. (1)
