"""Looks at this installation: runtime present once, extras, disk, families; each fault with the one command.

Distributions are found by their metadata; nothing is imported, so a broken package cannot break the doctor.
"""

import importlib.util
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from edgeprune.schema.doctor import DoctorCheck, DoctorReport, FamilyStatus
from edgeprune.units import format_bytes

__all__ = ["examine"]

_RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino", "onnxruntime-rocm")
_MINIMUM_RUNTIME = (1, 23)
_COMPRESS = ("torch", "transformers", "optimum", "mobius-onnx", "onnx-ir", "onnxscript", "safetensors", "scipy")


def examine(*, with_families: bool = False) -> DoctorReport:
    """All checks; healthy when nothing is broken."""
    checks = [_python(), _runtime(), _extra("compress", _COMPRESS), _extra("chat", ("tokenizers",)), _disk()]
    families: tuple[FamilyStatus, ...] = ()
    if with_families:
        from edgeprune.intake.families import describe_families  # data of the intake stage, no torch

        families = tuple(describe_families())
    return DoctorReport(
        is_healthy=all(check.status != "broken" for check in checks), checks=tuple(checks), families=families
    )


def installed_version(name: str) -> str | None:
    """Version of an installed distribution; None when it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _python() -> DoctorCheck:
    """Pip enforces the lower bound, so this tells and does not judge."""
    return DoctorCheck(name="python", status="ok", detail=platform.python_version())


def _runtime() -> DoctorCheck:
    found = {name: installed for name in _RUNTIMES if (installed := installed_version(name)) is not None}
    if not found:
        return DoctorCheck(
            name="onnxruntime",
            status="broken",
            detail="no onnxruntime is installed, so nothing can be measured or validated",
            command='pip install "edgeprune[cpu]"',
        )
    listed = ", ".join(f"{name} {installed}" for name, installed in found.items())
    if len(found) > 1:
        keep = "cuda" if "onnxruntime-gpu" in found else "cpu"
        return DoctorCheck(
            name="onnxruntime",
            status="broken",
            detail=f"{listed} overwrite each other's files",
            command=f'pip uninstall -y {" ".join(found)} && pip install "edgeprune[{keep}]"',
        )
    installed = next(iter(found.values()))
    if _major_minor(installed) < _MINIMUM_RUNTIME or importlib.util.find_spec("onnxruntime") is None:
        return DoctorCheck(
            name="onnxruntime",
            status="broken",
            detail=f"{listed}; 1.23 or later is needed",
            command='pip install --upgrade "edgeprune[cpu]"',
        )
    return DoctorCheck(name="onnxruntime", status="ok", detail=listed)


def _extra(extra: str, distributions: tuple[str, ...]) -> DoctorCheck:
    missing = [name for name in distributions if installed_version(name) is None]
    if missing:
        return DoctorCheck(
            name=extra,
            status="missing",
            detail=f"not installed: {', '.join(missing)}",
            command=f'pip install "edgeprune[{extra}]"',
        )
    return DoctorCheck(
        name=extra, status="ok", detail=", ".join(f"{name} {installed_version(name)}" for name in distributions)
    )


def _disk() -> DoctorCheck:
    free = shutil.disk_usage(Path.cwd()).free
    return DoctorCheck(name="disk", status="ok", detail=f"{format_bytes(free)} free here")


def _major_minor(text: str) -> tuple[int, int]:
    parts = text.split(".")
    try:
        return int(parts[0]), int(parts[1])
    except (IndexError, ValueError):
        return (0, 0)
