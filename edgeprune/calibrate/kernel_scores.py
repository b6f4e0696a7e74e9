"""Expected loss of storing a site under each kernel.

    weights      0.5 * output_weight * tr(dW S dW^T), dW the exact rounding error                       (1)
    activations  0.5 * output_weight * sum_j e_j ||W_j||^2, where the kernel rounds activations to int8  (2)

e_j is the measured mean squared rounding error of input j (`CalibrationStats.activation_noise`): blocks of 32 with one
scale each for accuracy level 4, one scale for all rows multiplied at once for dynamic int8.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgeprune.calibrate.accumulate import ACTIVATION_BLOCK
from edgeprune.calibrate.site_weights import SiteWeight, output_error
from edgeprune.rounding import dequantized, rounding_key
from edgeprune.schema.kernel import FLOAT32, parse_kernel

__all__ = ["kernel_losses", "kernel_losses_on", "rounded_weight"]


def kernel_losses(site: SiteWeight, kernels: Sequence[str]) -> NDArray[np.float64]:
    """[len(kernels)] expected loss increase in nats per token, in the order of `kernels`."""
    return kernel_losses_on((site,), kernels)[0]


def kernel_losses_on(texts: Sequence[SiteWeight], kernels: Sequence[str]) -> list[NDArray[np.float64]]:
    """The same for one weight under the moments of several texts, rounded once: an array a text."""
    weight_errors: dict[str, list[float]] = {}
    losses: list[list[float]] = [[] for _ in texts]
    for kernel in kernels:
        key = rounding_key(kernel)
        if key not in weight_errors:
            change = rounded_weight(texts[0].weight, kernel) - texts[0].weight
            weight_errors[key] = [output_error(change, site.gram) for site in texts]  # eq. (1)
        for site, found, error in zip(texts, losses, weight_errors[key], strict=True):
            found.append(0.5 * site.output_weight * (error + _activation_error(site, kernel)))
    return [np.array(found) for found in losses]


def rounded_weight(weight: Tensor, kernel: str) -> Tensor:
    """[out, in] float32 as the kernel computes with it."""
    if kernel == FLOAT32:
        return weight
    return torch.from_numpy(dequantized(weight.contiguous().numpy(), kernel))


def _activation_error(site: SiteWeight, kernel: str) -> float:
    parsed = parse_kernel(kernel)
    if parsed.kind == "dynamic_int8":
        noise = site.activation_noise[1]
    elif parsed.accuracy_level == 4:
        noise = site.activation_noise[0]
    else:
        return 0.0
    columns = site.weight.square().sum(dim=0, dtype=torch.float64)
    return float(noise.repeat_interleave(ACTIVATION_BLOCK)[: len(columns)] @ columns)  # eq. (2)
