"""`factor_site` and `factor_sites`: the two factors of one site, or of several that share the right one.

Whoever asks gets the same bits, wherever it is done: factoring always runs on one thread, and workers, not threads,
make it faster. Sites that share a right factor are factored as one matrix, their rows one below the other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from edgeprune.calibrate.one_thread import one_thread
from edgeprune.calibrate.statistics import CalibrationStats, input_key
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
from edgeprune.sharing import groups_of_one_factor

__all__ = ["SiteInputs", "factor_site", "factor_sites", "site_inputs"]


@dataclass(frozen=True, kw_only=True)
class SiteInputs:
    """What a site is factored from."""

    weight: Tensor
    """[out, in] float32."""
    bias: Tensor | None
    """[out] float32, or None."""
    gram: Tensor
    """[in, in] float64, second moment of the site's inputs."""
    mean: Tensor
    """[in] float64, their mean."""
    mean_absolute: Tensor | None
    """[in] float64, mean of their magnitudes; None where it was not measured."""
    output_gram: Tensor | None
    """[out, out] float64, of the gradients of the site's output; None where it was not measured, or channels have left
    since."""


def site_inputs(name: str, module: nn.Linear, stats: CalibrationStats) -> SiteInputs:
    """Weights and statistics of one site."""
    key, gram = input_key(name), stats.output_gram.get(name)
    return SiteInputs(
        weight=module.weight.detach(),
        bias=None if module.bias is None else module.bias.detach(),
        gram=stats.gram[key],
        mean=stats.mean[key],
        mean_absolute=stats.mean_absolute.get(key),
        output_gram=gram if gram is not None and len(gram) == len(module.weight) else None,
    )


def factor_sites(edits: Sequence[SiteEdit], inputs: Mapping[str, SiteInputs]) -> dict[str, Factors]:
    """Factors of sites of one block as their edits say, by name; those that share a right factor hold the same tensor.

    Raises:
        ModelError: weights or statistics that are not finite, or statistics without what the method needs.
    """
    found: dict[str, Factors] = {}
    for group in groups_of_one_factor(edits):
        parts = [inputs[edit.name] for edit in group]
        first = parts[0]
        biases = [part.bias for part in parts if part.bias is not None]
        has_biases = len(biases) == len(parts)
        factors = factor_site(
            group[0],
            torch.cat([part.weight for part in parts]) if len(parts) > 1 else first.weight,
            (torch.cat(biases) if len(parts) > 1 else first.bias) if has_biases else None,
            gram=first.gram,
            mean=first.mean,
            mean_absolute=first.mean_absolute,
            output_gram=[part.output_gram for part in parts],
        )
        if len(group) == 1:
            found[group[0].name] = factors
            continue
        widths = [len(part.weight) for part in parts]
        new = [part.bias for part in parts] if factors.bias is None else factors.bias.split(widths)
        for edit, left, bias in zip(group, factors.left.split(widths), new, strict=True):
            found[edit.name] = replace(factors, left=left.contiguous(), bias=bias)
    return found


def factor_site(
    edit: SiteEdit,
    weight: Tensor,
    bias: Tensor | None,
    *,
    gram: Tensor,
    mean: Tensor,
    mean_absolute: Tensor | None = None,
    output_gram: Tensor | Sequence[Tensor | None] | None = None,
) -> Factors:
    """Factor one site as its edit says, or several one below the other as the first one's edit does.

    Args:
        edit: with a rank; its kernel decides whether the factors are balanced and fitted for rounding.
        weight: [out, in] float32.
        bias: [out] float32, or None.
        gram: [in, in] float64, second moment of the site's inputs.
        mean: [in] float64, their mean.
        mean_absolute: [in] float64, mean of their magnitudes; None where it was not measured.
        output_gram: [out, out] float64, of the gradients of the site's output; None where it was not measured. Of
            several sites, one each.

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
    output_gram: Tensor | Sequence[Tensor | None] | None,
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
