"""Recalibration: measured bundles correct the profile their predictions were made with.

Takes a profile, a validation made on the device it stands for, and the manifests of the measured bundles; gives the
profile with corrections fitted to all residuals it has ever been given, and a record of the error before and after.
"""

from collections.abc import Mapping
from pathlib import Path

from msgspec.structs import replace

from edgeprune.artifacts import hash_parts
from edgeprune.errors import UsageError
from edgeprune.predict.correction_fit import fit_factors
from edgeprune.predict.cost import CostModel
from edgeprune.predict.families import predicted_parts
from edgeprune.schema.bundle import BundleManifest
from edgeprune.schema.correction import CorrectedQuantity, Corrections, ProfileResidual, Recalibration, ResidualRow
from edgeprune.schema.device import DeviceProfile, Floor
from edgeprune.schema.measurement import BundleMeasurement, ValidationReport

__all__ = ["profile_to_correct", "recalibrate_profile", "recalibrate_saved"]

UNITS: dict[CorrectedQuantity, str] = {"disk": "bytes", "memory": "bytes", "decode": "s", "prefill": "s"}


def profile_to_correct(name: str, *, fallback: DeviceProfile | None = None) -> DeviceProfile:
    """The saved or shipped profile of that name, or `fallback` where the name is new; asked before measuring.

    Raises:
        UsageError: no such profile and no fallback, or a name that cannot be saved.
    """
    from edgeprune.profile.store import check_name, list_profiles, load_profile

    check_name(name)
    if fallback is not None and name not in {entry.name for entry in list_profiles()}:
        return fallback
    return load_profile(name)


def recalibrate_saved(
    profile: DeviceProfile, name: str, report: ValidationReport, bundles: Mapping[str, Path]
) -> Recalibration:
    """Correct a profile and save it for this user under a name, where it shadows a shipped one.

    Args:
        profile: from `profile_to_correct`.
        name: to save it under.
        report: the validation, made on the device the profile stands for.
        bundles: label -> folder of each measured bundle.

    Raises:
        UsageError: these measurements cannot correct the profile.
    """
    from edgeprune.profile.store import save_profile
    from edgeprune.validate.bundle import read_manifest

    manifests = {label: read_manifest(folder) for label, folder in bundles.items()}
    corrected, rows = recalibrate_profile(profile, report, manifests)
    path = save_profile(replace(corrected, name=name), name)
    assert corrected.corrections is not None  # set just above
    return Recalibration(
        profile_name=name,
        path=str(path),
        measured_at=report.created_at,
        rows=rows,
        factors=corrected.corrections.factors,
        notes=_disturbances(report),
    )


def _disturbances(report: ValidationReport) -> tuple[str, ...]:
    """A busy or hot device is slower than it will be: its corrections would be too."""
    from edgeprune.profile.conditions import disturbances
    from edgeprune.runtime.threads import usable_core_count

    before, after = report.conditions_before, report.conditions_after
    if before is None or after is None:
        return ()
    return tuple(disturbances(before, after, usable_core_count=usable_core_count()))


def recalibrate_profile(
    profile: DeviceProfile, report: ValidationReport, manifests: Mapping[str, BundleManifest]
) -> tuple[DeviceProfile, tuple[ResidualRow, ...]]:
    """Correct a profile by measurements; rows tell each quantity predicted before, measured, and predicted after.

    Args:
        profile: of the device that was measured on, with or without earlier corrections.
        report: the validation.
        manifests: label -> manifest of each measured bundle.

    Raises:
        UsageError: the validation ran with another number of threads than the profile, or measured nothing.
    """
    if profile.basis == "measured" and profile.thread_count not in (None, report.thread_count):
        raise UsageError(
            f"The profile {profile.name} was timed with {profile.thread_count} threads, this validation ran with "
            f"{report.thread_count}; validate with --threads {profile.thread_count}, or profile with "
            f"--threads {report.thread_count} first."
        )
    fresh = [
        residual
        for entry in report.measurements
        if entry.label in manifests
        for residual in _residuals(profile, entry, manifests[entry.label], report.created_at)
    ]
    if not fresh:
        raise UsageError(
            f"Nothing was measured that {profile.name} predicts, so there is nothing to recalibrate it by; "
            "see the failures of the validation."
        )
    measured_again = {residual.bundle_hash for residual in fresh}
    known = () if profile.corrections is None else profile.corrections.residuals
    residuals = (*(entry for entry in known if entry.bundle_hash not in measured_again), *fresh)
    corrected = replace(
        _completed(profile, report),
        corrections=Corrections(
            factors=fit_factors(residuals, is_datasheet=profile.basis == "datasheet"),
            residuals=residuals,
            updated_at=report.created_at,
        ),
    )
    rows = [
        row
        for entry in report.measurements
        if entry.label in manifests
        for row in _rows(profile, corrected, entry, manifests[entry.label])
    ]
    return corrected, tuple(rows)


def _measured(entry: BundleMeasurement) -> dict[CorrectedQuantity, float | None]:
    return {
        "disk": float(entry.disk_bytes),
        "memory": None if entry.model_memory_bytes is None else float(entry.model_memory_bytes),
        "decode": entry.decode_s,
        "prefill": None if entry.prefill is None else entry.prefill.median_s,
    }


def _residuals(
    profile: DeviceProfile, entry: BundleMeasurement, manifest: BundleManifest, measured_at: str
) -> list[ProfileResidual]:
    found = []
    for quantity, measured in _measured(entry).items():
        predicted = _parts(profile, manifest, quantity)
        if predicted is None or measured is None or measured <= 0.0:
            continue
        found.append(
            ProfileResidual(
                bundle_hash=hash_parts(manifest),
                label=entry.label,
                quantity=quantity,
                predicted=predicted[0],
                measured=measured,
                parts=predicted[1],
                measured_at=measured_at,
            )
        )
    return found


def _parts(
    profile: DeviceProfile, manifest: BundleManifest, quantity: CorrectedQuantity
) -> tuple[float, dict[str, float]] | None:
    if quantity != "disk":
        return predicted_parts(profile, manifest.spec, manifest.workload, quantity)
    disk_bytes = _disk_bytes(manifest)
    return None if disk_bytes is None else (disk_bytes, {})


def _disk_bytes(manifest: BundleManifest) -> float | None:
    """What was predicted at export: a bundle does not tell the dense tokenizer's size, from which it is predicted."""
    return None if manifest.predicted is None else float(manifest.predicted.disk_bytes)


def _rows(
    before: DeviceProfile, after: DeviceProfile, entry: BundleMeasurement, manifest: BundleManifest
) -> list[ResidualRow]:
    first, second = _predictions(before, manifest), _predictions(after, manifest)
    found = []
    for quantity, measured in _measured(entry).items():
        old, new = first[quantity], second[quantity]
        if measured is None or measured <= 0.0 or old is None or new is None:
            continue
        found.append(
            ResidualRow(
                label=entry.label,
                quantity=quantity,
                unit=UNITS[quantity],
                before=old,
                measured=measured,
                error_before=(old - measured) / measured,
                after=new,
                error_after=(new - measured) / measured,
            )
        )
    return found


def _predictions(profile: DeviceProfile, manifest: BundleManifest) -> dict[CorrectedQuantity, float | None]:
    cost = CostModel(profile, manifest.spec, manifest.workload).edited_cost(manifest.spec)
    return {
        "disk": _disk_bytes(manifest),
        "memory": cost.model_memory_bytes.value,
        "decode": cost.decode_s.value,
        "prefill": cost.prefill_s.value,
    }


def _completed(profile: DeviceProfile, report: ValidationReport) -> DeviceProfile:
    """A data sheet with what the validation saw of the device itself: its floor and its runtime."""
    floor = next((entry.floor_bytes for entry in report.measurements if entry.floor_bytes is not None), None)
    if floor is not None and (profile.floor is None or profile.floor.basis != "measured"):
        profile = replace(profile, floor=Floor(peak_rss_bytes=floor, anonymous_bytes=None))
    if profile.runtime.onnxruntime_version is None:
        profile = replace(profile, runtime=report.runtime)
    return profile
