"""`factor_site`: the two factors of one site, whoever asks, with the same bits wherever it is done.

Factoring always runs on one thread, and workers, not threads, make it faster.
"""

import torch
from torch import Tensor

from edgeprune.calibrate.one_thread import one_thread
from edgeprune.calibrate.statistics import CalibrationStats
from edgeprune.compress.asvd import factor_asvd
from edgeprune.compress.fit_rounded import fit_rounded
from edgeprune.compress.laser import factor_laser
from edgeprune.compress.passes import check_finite
from edgeprune.compress.pivoted import pivot
from edgeprune.compress.ranks import Factors, factor_lowrank
from edgeprune.compress.svdllm import factor_svdllm
from edgeprune.errors import ModelError
from edgeprune.schema.kernel import FLOAT32, parse_kernel
from edgeprune.schema.recipe import SiteEdit

__all__ = ["factor_site", "fitting_output_gram"]


def fitting_output_gram(stats: CalibrationStats, name: str, out_features: int) -> Tensor | None:
    """[out, out] of a site's output gradients; None where it was not measured, or channels have left since."""
    gram = stats.output_gram.get(name)
    return gram if gram is not None and len(gram) == out_features else None


def factor_site(
    edit: SiteEdit,
    weight: Tensor,
    bias: Tensor | None,
    *,
    gram: Tensor,
    mean: Tensor,
    mean_absolute: Tensor | None = None,
    output_gram: Tensor | None = None,
) -> Factors:
    """Factor one site as its edit says.

    Args:
        edit: with a rank; its kernel decides whether the factors are balanced and fitted for rounding.
        weight: [out, in] float32.
        bias: [out] float32, or None.
        gram: [in, in] float64, second moment of the site's inputs.
        mean: [in] float64, their mean.
        mean_absolute: [in] float64, mean of their magnitudes; None where it was not measured.
        output_gram: [out, out] float64, of the gradients of the site's output; None where it was not measured.

    Raises:
        ModelError: weights or statistics that are not finite, or statistics without what the method needs.
    """
    assert edit.rank is not None
    check_finite(f"The input statistics of {edit.name}", gram)
    try:
        with one_thread():
            factors = _factors(edit, edit.rank, weight, bias, gram, mean, mean_absolute, output_gram)
            if edit.form == "pivot":
                right, left, order = pivot(factors.right, factors.left)
                factors = Factors(right=right, left=left, bias=factors.bias, order=order)
            if edit.method == "lowrank" and parse_kernel(edit.kernel).kind != "float":
                factors = fit_rounded(factors, weight, edit.kernel, gram=gram, mean=mean, bias=bias)
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
        # LAPACK refuses NaN and infinity with "failed to converge".
        raise ModelError(
            f"{edit.name} cannot be factored ({error}); the model's weights or the calibration statistics are not "
            "finite, check the model or calibrate again."
        ) from error
    check_finite(edit.name, factors.right, factors.left, factors.bias)
    return Factors(
        right=factors.right.float().contiguous(),
        left=factors.left.float().contiguous(),
        bias=None if factors.bias is None else factors.bias.float(),
        order=factors.order,
    )


def _factors(
    edit: SiteEdit,
    rank: int,
    weight: Tensor,
    bias: Tensor | None,
    gram: Tensor,
    mean: Tensor,
    mean_absolute: Tensor | None,
    output_gram: Tensor | None,
) -> Factors:
    """Float64 factors by the edit's method."""
    match edit.method:
        case "laser":
            return factor_laser(weight, rank, bias=bias)
        case "asvd":
            if mean_absolute is None:
                raise ModelError(
                    f"{edit.name} cannot be factored by asvd: the statistics hold no magnitudes of its inputs; "
                    "calibrate this model again with this EdgePrune."
                )
            return factor_asvd(weight, mean_absolute, rank, bias=bias)
        case "svdllm":
            return factor_svdllm(weight, gram, rank, bias=bias)
        case "lowrank":
            is_balanced = edit.kernel != FLOAT32
            return factor_lowrank(
                weight, gram, rank, mean=mean, bias=bias, is_balanced=is_balanced, output_gram=output_gram
            )
