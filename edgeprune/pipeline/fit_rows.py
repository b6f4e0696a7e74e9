"""One row of `fit`: a model at one precision, priced or at least weighed, and judged against the limits.

Prices come from the same `CostModel` that the search uses, of the same plain recipes that runs are compared with.
"""

from collections.abc import Sequence

from edgeprune.intake.weights import WeightShapes
from edgeprune.pipeline.settings import BASELINES
from edgeprune.predict.cost import CostModel
from edgeprune.schema.base import Verdict
from edgeprune.schema.budget import Budget, Workload
from edgeprune.schema.device import DeviceProfile
from edgeprune.schema.estimate import Cost, Estimate
from edgeprune.schema.fit import FitRow, SpeedBasis
from edgeprune.schema.model import ModelSpec
from edgeprune.search.baselines import plain_recipe

__all__ = ["ASSUMED_FLOOR_SPREAD", "PRECISIONS", "price_rows", "weigh_rows"]

PRECISIONS = {"fp32": BASELINES["dense"], "fp16": "fp16", "int8": BASELINES["int8"], "int4": BASELINES["int4"]}
"""Label -> kernel of every matrix and table, widest first."""

ASSUMED_FLOOR_SPREAD = 0.5
"""Floors of two systems differ by the libraries they load."""

_UNKNOWN = Estimate(value=None)


def price_rows(
    spec: ModelSpec,
    device: DeviceProfile,
    limits: Budget,
    *,
    tokens: int,
    precisions: Sequence[str],
    too_long: bool,
) -> list[FitRow]:
    """A model that EdgePrune can bring onto the device; `too_long` when the context asked for exceeds its positions."""
    cost_model = CostModel(device, spec, Workload(context_tokens=tokens))
    source: SpeedBasis = "roofline" if cost_model.timed_kernels is None else "kernel_table"
    rows = []
    for label in precisions:
        kernel = PRECISIONS[label]
        cost = cost_model.cost(plain_recipe(spec, kernel, context_tokens=tokens, seed=0))
        peak = _with_floor_range(cost.peak_rss_bytes, device)
        fits, is_close, binding = _judge(cost, peak, limits, too_long=too_long)
        rows.append(
            FitRow(
                precision=label,
                kernel=kernel,
                weights_bytes=cost.weights_bytes,
                disk_bytes=cost.disk_bytes,
                peak_rss_bytes=peak,
                tokens_per_s=_rate(cost.decode_s),
                speed_basis=None if cost.decode_s.value is None else source,
                prefill_s=cost.prefill_s,
                fits=fits,
                is_close=is_close,
                binding=binding,
            )
        )
    return rows


def weigh_rows(weights: WeightShapes, limits: Budget, *, precisions: Sequence[str], too_long: bool) -> list[FitRow]:
    """A model that no family reads: its weights alone may show that it cannot fit, nothing shows that it does."""
    rows = []
    for label in precisions:
        kernel = PRECISIONS[label]
        size = weights.stored_bytes(kernel)
        bounds = {"memory": limits.memory_bytes, "disk": limits.disk_bytes}
        missed = [name for name, limit in bounds.items() if limit is not None and size > limit]
        missed += ["context"] if too_long else []
        rows.append(
            FitRow(
                precision=label,
                kernel=kernel,
                weights_bytes=size,
                disk_bytes=None,
                peak_rss_bytes=_UNKNOWN,
                tokens_per_s=_UNKNOWN,
                speed_basis=None,
                prefill_s=_UNKNOWN,
                fits="not_met" if missed else "unmeasured",
                binding=tuple(missed) if missed else ("memory",),
            )
        )
    return rows


def _judge(cost: Cost, peak: Estimate, limits: Budget, *, too_long: bool) -> tuple[Verdict, bool, tuple[str, ...]]:
    """Verdict, whether a range crosses its limit, and the limits missed or unknown."""
    disk = float(cost.disk_bytes)
    pairs = [
        ("memory", limits.memory_bytes, peak),
        ("latency", limits.latency_s, cost.decode_s),
        ("first_token", limits.first_token_s, cost.prefill_s),
        ("disk", limits.disk_bytes, Estimate(value=disk, low=disk, high=disk)),
    ]
    missed = ["context"] if too_long else []
    is_clear = too_long
    unknown = ["memory"] if limits.memory_bytes is None else []
    crossed = False
    for name, limit, estimate in pairs:
        if limit is None:
            continue
        if estimate.value is None:
            unknown.append(name)
        elif estimate.value > limit:
            missed.append(name)
            is_clear = is_clear or estimate.low is None or estimate.low > limit
        else:
            crossed = crossed or (estimate.high is not None and estimate.high > limit)
    if missed:
        return "not_met", not is_clear, tuple(missed)
    return ("unmeasured", crossed, tuple(unknown)) if unknown else ("met", crossed, ())


def _with_floor_range(peak: Estimate, device: DeviceProfile) -> Estimate:
    """The predicted peak; wider where the floor under it is an assumption."""
    floor = device.floor
    if floor is None or floor.basis == "measured" or peak.value is None or peak.low is None or peak.high is None:
        return peak
    around = ASSUMED_FLOOR_SPREAD * floor.peak_rss_bytes
    return Estimate(value=peak.value, low=peak.low - around, high=peak.high + around, basis=peak.basis)


def _rate(time_s: Estimate) -> Estimate:
    """Per second; the slow end of a time is the low end of a rate."""
    if not time_s.value:
        return Estimate(value=None, basis=time_s.basis)
    return Estimate(
        value=1.0 / time_s.value,
        low=1.0 / time_s.high if time_s.high else None,
        high=1.0 / time_s.low if time_s.low else None,
        basis=time_s.basis,
    )
