"""Ranks at which the noise in a matrix begins, as interventions to try first.

What plain truncation at the edge of the noise takes away is, to the eye of random matrix theory, noise alone, which is
what a denoiser should take; laserRMT searches by such an edge. The edges are those of `calibrate.noise_edges`, read
from the singular values that the search needs anyway.
"""

from collections.abc import Sequence

from edgeprune.calibrate.noise_edges import noise_edges
from edgeprune.compress.laser_search.interventions import Intervention, Spectra
from edgeprune.schema.laser import LaserPrior

__all__ = ["edge_interventions"]


def edge_interventions(spectra: Spectra, interventions: Sequence[Intervention]) -> list[Intervention]:
    """Both edges of every site that is offered, those left out at which nothing or everything would stay.

    Args:
        spectra: of the model's sites.
        interventions: whose sites count; where one of them stands at an edge, the edge proposes it.
    """
    found: dict[Intervention, None] = {}
    for site, example in {one.site: one for one in interventions}.items():
        U, sigma, V = spectra.of(site)
        edges = noise_edges(sigma.numpy(), (U.shape[0], V.shape[1]))
        named: tuple[tuple[LaserPrior, int], ...] = (
            ("marchenko_pastur", edges.marchenko_pastur),
            ("gavish_donoho", edges.gavish_donoho),
        )
        for name, rank in named:
            if not 0 < rank < len(sigma):
                continue
            same = [one for one in interventions if (one.site, one.rank) == (site, rank)]
            fraction = same[0].fraction if same else rank / len(sigma)
            found.setdefault(Intervention(example.block, example.role, rank, fraction, prior=name))
    return list(found)
