"""What fits a device: models by their configurations alone, at each precision, with the speed to expect.

Takes names of the catalogue or folders, a device profile and limits; gives a `FitReport`. Nothing is downloaded.
"""

from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from edgeprune.errors import UsageError
from edgeprune.intake.catalogue import describe_entry, find_entry, match_entry, read_catalogue
from edgeprune.intake.described import DescribedModel, describe_folder
from edgeprune.pipeline.fit_device import FitDevice
from edgeprune.pipeline.fit_rows import ASSUMED_FLOOR_SPREAD, PRECISIONS, price_rows, weigh_rows
from edgeprune.schema.base import Verdict
from edgeprune.schema.budget import Budget
from edgeprune.schema.device import DeviceProfile, Floor
from edgeprune.schema.fit import FitModel, FitReport
from edgeprune.units import format_bytes

__all__ = ["ASSUMED_FLOOR_BYTES", "DEFAULT_PRECISIONS", "NamedModel", "check_precisions", "fit_models", "name_models"]

DEFAULT_PRECISIONS = ("fp16", "int8", "int4")
DEFAULT_CONTEXT_TOKENS = 512

ASSUMED_FLOOR_BYTES = 60_000_000
"""Floor of a device nobody has measured: what x86 and onnxruntime 1.31 showed (README)."""

_ROOFLINE = (
    "speeds are what the memory's bandwidth allows, which slow cores may not reach, and prefill times are unknown"
)

_RANK: dict[Verdict, int] = {"met": 0, "unmeasured": 1, "not_met": 2}


NamedModel = tuple[DescribedModel, str | None]
"""A model by its configuration, and its hub id; None for a folder."""


def name_models(names: Sequence[str]) -> list[NamedModel]:
    """The models of these names, each once; without names, the whole catalogue.

    A folder with a config.json comes before a model of the catalogue of the same name.

    Raises:
        UsageError: no folder and no model of that name.
        ModelError: a folder whose configuration is missing, malformed or describes no decoder that can be counted.
    """
    if not names:
        return [(describe_entry(entry), entry.hub_id) for entry in read_catalogue()]
    found: dict[str, NamedModel] = {}
    for name in names:
        folder = Path(name).expanduser()
        if (folder / "config.json").is_file():
            found.setdefault(str(folder.resolve()), (describe_folder(folder), None))
            continue
        if folder.is_dir() and match_entry(name) is None:
            describe_folder(folder)  # raises, and says what the folder lacks
        entry = find_entry(name)
        found.setdefault(entry.hub_id, (describe_entry(entry), entry.hub_id))
    return list(found.values())


def check_precisions(precisions: Sequence[str]) -> None:
    """Refuse a precision there is no kernel for.

    Raises:
        UsageError: there is none of that name.
    """
    for precision in precisions:
        if precision not in PRECISIONS:
            raise UsageError(f"Unknown precision {precision!r}; use {', '.join(PRECISIONS)}.")


def fit_models(
    models: Sequence[NamedModel],
    device: FitDevice,
    *,
    budget: Budget,
    context: int | None = None,
    precisions: Sequence[str] = DEFAULT_PRECISIONS,
) -> FitReport:
    """Price models on a device and say which fit.

    `budget.memory_bytes` is the memory before the reserve is taken off; None takes what the device has.

    Raises:
        UsageError: an unknown precision, or a reserve that leaves nothing.
    """
    check_precisions(precisions)
    profile = device.profile
    has_floor = profile.floor is not None
    assumed = Floor(peak_rss_bytes=ASSUMED_FLOOR_BYTES, anonymous_bytes=None, basis="estimated")
    floor = profile.floor or assumed
    limits = _resolve(budget, profile)
    chosen = [label for label in PRECISIONS if label in precisions]
    fitted = [
        _fit(described, hub_id, replace(profile, floor=floor), limits, context=context, precisions=chosen)
        for described, hub_id in models
    ]
    fitted.sort(key=lambda model: (_RANK[model.fits], -model.parameter_count, model.name))
    return FitReport(
        verdict=_best([model.fits for model in fitted]),
        device_name=profile.name,
        device_basis=profile.basis,
        device_is_saved=device.is_saved,
        floor_bytes=floor.peak_rss_bytes,
        floor_basis=floor.basis,
        context_tokens=max(model.context_tokens for model in fitted),
        budget=limits,
        models=tuple(fitted),
        notes=_notes(device, limits, has_floor=has_floor, names_memory=budget.memory_bytes is not None),
    )


def _resolve(budget: Budget, profile: DeviceProfile) -> Budget:
    """The budget with the device's memory where none was given, and the reserve taken off."""
    memory = budget.memory_bytes
    origin = "user"
    if memory is None:
        memory = profile.memory.usable_bytes or profile.memory.total_bytes
        origin = "device"
    if memory is not None and budget.reserve_bytes:
        if budget.reserve_bytes >= memory:
            raise UsageError(
                f"--reserve {format_bytes(budget.reserve_bytes)} leaves nothing of {format_bytes(memory)} of memory; "
                "lower the reserve."
            )
        memory -= budget.reserve_bytes
    return replace(budget, memory_bytes=memory, origin=origin)


def _fit(
    described: DescribedModel,
    hub_id: str | None,
    profile: DeviceProfile,
    limits: Budget,
    *,
    context: int | None,
    precisions: Sequence[str],
) -> FitModel:
    tokens = min(context or DEFAULT_CONTEXT_TOKENS, described.max_positions)
    too_long = context is not None and context > described.max_positions
    if described.spec is not None:
        rows = price_rows(described.spec, profile, limits, tokens=tokens, precisions=precisions, too_long=too_long)
    else:
        assert described.weights is not None  # a described model has one of the two
        rows = weigh_rows(described.weights, limits, precisions=precisions, too_long=too_long)
    rows.sort(key=lambda row: _RANK[row.fits])  # stable: the widest precision that fits comes first
    return FitModel(
        name=described.name,
        hub_id=hub_id,
        model_type=described.model_type,
        license=described.license,
        parameter_count=described.parameter_count,
        context_tokens=tokens,
        can_compress=described.spec is not None,
        refusal=described.refusal,
        fits=_best([row.fits for row in rows]),
        rows=tuple(rows),
    )


def _best(verdicts: Sequence[Verdict]) -> Verdict:
    return min(verdicts, key=lambda verdict: _RANK[verdict])


def _notes(device: FitDevice, limits: Budget, *, has_floor: bool, names_memory: bool) -> tuple[str, ...]:
    profile = device.profile
    notes = []
    if not device.is_saved:
        notes.append(
            f"Only the memory and its bandwidth were measured here, kernels were not timed: {_ROOFLINE}; "
            "edgeprune profile --save NAME measures them for the next time."
        )
    elif not profile.kernel_times:
        notes.append(
            f"The kernels of {profile.name} were never timed: {_ROOFLINE}; edgeprune profile on it measures them."
        )
    if not has_floor:
        notes.append(
            f"The floor of {profile.name} is not measured; {format_bytes(ASSUMED_FLOOR_BYTES)} is assumed, give or "
            f"take {ASSUMED_FLOOR_SPREAD:.0%}."
        )
    if limits.memory_bytes is None:
        notes.append("The profile does not tell the device's memory; give --memory.")
    elif not names_memory:
        notes.append(
            f"The memory limit is what the device has ({format_bytes(limits.memory_bytes)} after the reserve), of "
            "which its system takes a part; --reserve keeps some free."
        )
    if limits.disk_bytes is not None:
        notes.append("Tokenizer files of catalogue models are estimated from the size of their vocabulary.")
    return tuple(notes)
