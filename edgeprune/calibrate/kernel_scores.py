"""Expected loss of storing a site under each kernel.

    weights      0.5 * output_weight * tr(dW S dW^T), dW the exact error of rounding to nearest             (1)
                 0.5 * output_weight * sum_j c_j ||r_j||^2, rounding with the inputs in view (`feedback_costs`),
                 r the error of rounding to nearest on its grids, where that is less                        (2)
    activations  0.5 * output_weight * sum_j e_j ||W_j||^2, where the kernel rounds activations to int8     (3)

e_j is the measured mean squared rounding error of input j (`CalibrationStats.activation_noise`): blocks of 32 with one
scale each for accuracy level 4, one scale for all rows multiplied at once for dynamic int8.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgeprune.calibrate.accumulate import ACTIVATION_BLOCK
from edgeprune.calibrate.gptq import feedback_costs, on_grid
from edgeprune.calibrate.nearest import rounded
from edgeprune.calibrate.site_weights import SiteWeight, output_error
from edgeprune.calibrate.statistics import input_key
from edgeprune.rounding import rounding_key
from edgeprune.schema.kernel import parse_kernel
from edgeprune.schema.recipe import RoundingMethod

__all__ = ["KernelScorer"]


@dataclass
class KernelScorer:
    """Scores one site of a model after the other; those that read the same inputs share their part if in turn."""

    kernels: Sequence[str]
    rounding: RoundingMethod
    _key: tuple[str, int] = field(default=("", 0), init=False)
    _costs: list[Tensor] = field(default_factory=list, init=False)

    def losses(self, *texts: SiteWeight) -> list[NDArray[np.float64]]:
        """For each text [len(kernels)] expected loss increase in nats per token, in the order of the kernels.

        Args:
            texts: one weight under the moments of several texts; the first is the one that edits are fitted to.
        """
        weight_errors: dict[str, list[float]] = {}
        losses: list[list[float]] = [[] for _ in texts]
        for kernel in self.kernels:
            key = rounding_key(kernel)
            if key not in weight_errors:
                weight_errors[key] = self._weight_errors(texts, kernel)
            for site, found, error in zip(texts, losses, weight_errors[key], strict=True):
                found.append(0.5 * site.output_weight * (error + _activation_error(site, kernel)))
        return [np.array(found) for found in losses]

    def _weight_errors(self, texts: Sequence[SiteWeight], kernel: str) -> list[float]:
        fitted = texts[0]
        change = rounded(fitted.weight, kernel) - fitted.weight
        nearest = [output_error(change, site.gram) for site in texts]  # eq. (1)
        if self.rounding == "nearest" or parse_kernel(kernel).kind == "float":
            return nearest
        key = input_key(fitted.name), len(texts)
        if self._key != key:
            self._costs, self._key = feedback_costs(fitted.gram, [site.gram for site in texts]), key
        errors = on_grid(fitted.weight, fitted.gram.diagonal(), kernel) - fitted.weight
        columns = errors.square().sum(dim=0, dtype=torch.float64)
        expected = [float(costs @ columns) for costs in self._costs]  # eq. (2)
        return expected if expected[0] < nearest[0] else nearest


def _activation_error(site: SiteWeight, kernel: str) -> float:
    parsed = parse_kernel(kernel)
    if parsed.kind == "dynamic_int8":
        noise = site.activation_noise[1]
    elif parsed.accuracy_level == 4:
        noise = site.activation_noise[0]
    else:
        return 0.0
    columns = site.weight.square().sum(dim=0, dtype=torch.float64)
    return float(noise.repeat_interleave(ACTIVATION_BLOCK)[: len(columns)] @ columns)  # eq. (3)
