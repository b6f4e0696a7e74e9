"""Where the scores find a site's weight and the second moment its error counts under."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from edgeprune.calibrate.statistics import CalibrationStats, input_key
from edgeprune.intake.load import LoadedModel

__all__ = ["SiteWeight", "output_error", "site_weights"]


@dataclass(frozen=True, kw_only=True)
class SiteWeight:
    """One dense site of the model with what prices a change of its weight."""

    name: str
    block: int
    weight: Tensor
    """[out, in] float32."""
    gram: Tensor
    """[in, in] float64; centred where the site has a bias, which takes over the constant part of any error."""
    activation_noise: Tensor
    """[2, ceil(in / 32)] float64."""
    output_weight: float
    output_gram: Tensor | None = None
    """[out, out] float64, see `CalibrationStats.output_gram`; None where it was not measured."""


def site_weights(loaded: LoadedModel, stats: CalibrationStats) -> Iterator[SiteWeight]:
    """The sites of the model in order, block by block."""
    blocks = loaded.adapter.blocks(loaded.model)
    centred: tuple[str, Tensor] | None = None
    for block, spec in zip(blocks, loaded.spec.blocks, strict=True):
        for site in spec.sites:
            module = loaded.adapter.site(block, site.role)
            assert isinstance(module, nn.Linear)
            key = input_key(site.name)
            gram = stats.gram[key]
            if module.bias is not None:
                if centred is None or centred[0] != key:  # one tensor for all sites that read the same inputs
                    centred = key, gram - stats.mean[key].outer(stats.mean[key])
                gram = centred[1]
            yield SiteWeight(
                name=site.name,
                block=spec.index,
                weight=module.weight.detach(),
                gram=gram,
                activation_noise=stats.activation_noise[key],
                output_weight=stats.output_weight[site.name],
                output_gram=stats.output_gram.get(site.name),
            )


def output_error(change: Tensor, gram: Tensor) -> float:
    """tr(dW S dW^T): mean squared change of the output, summed over its features; float64."""
    change = change.double()
    return float(((change @ gram) * change).sum())
