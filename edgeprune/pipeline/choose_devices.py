"""The devices of a choice: every one as a profile in the choice's folder, so that all models are priced on the same.

This device is measured once, with the shapes of every candidate that could fit; the file's name holds what decides the
measurement, so that the same choice resumes with the same profile.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from edgeprune.artifacts import hash_parts, read_record, write_record
from edgeprune.errors import UsageError
from edgeprune.pipeline.device_stages import attention_shapes, site_shapes
from edgeprune.pipeline.fit import ASSUMED_FLOOR_BYTES
from edgeprune.profile.store import load_profile
from edgeprune.schema.choice import ChoiceRequest
from edgeprune.schema.device import DeviceProfile, Floor
from edgeprune.schema.events import Progress
from edgeprune.schema.model import ModelSpec

__all__ = ["PlacedDevice", "named_devices", "place_devices"]


class PlacedDevice(NamedTuple):
    """A profile and the file of it that runs are given."""

    profile: DeviceProfile
    path: Path


def named_devices(names: Sequence[str]) -> list[DeviceProfile]:
    """Profiles of these names; a floor nobody measured is assumed, as `fit` does.

    Raises:
        UsageError: no such profile, or two of one name.
    """
    assumed = Floor(peak_rss_bytes=ASSUMED_FLOOR_BYTES, anonymous_bytes=None, basis="estimated")
    profiles = [load_profile(name) for name in dict.fromkeys(names)]
    if len({profile.name for profile in profiles}) < len(profiles):
        raise UsageError("Two of the devices are profiles of the same name; give each device once.")
    return [profile if profile.floor is not None else replace(profile, floor=assumed) for profile in profiles]


def place_devices(
    request: ChoiceRequest, specs: Sequence[ModelSpec], *, folder: Path, progress: Progress
) -> list[PlacedDevice]:
    """Profiles of the request's devices, or this device measured, each written under `folder`.

    Raises:
        UsageError: no such profile.
        DeviceError: this device could not be measured.
    """
    if request.devices:
        placed = []
        for profile in named_devices(request.devices):
            path = folder / f"{profile.name}-{hash_parts(profile)[:8]}.json"
            write_record(path, profile)
            placed.append(PlacedDevice(profile, path))
        return placed
    from edgeprune.profile.run import profile_device  # onnxruntime

    shapes = tuple(sorted({shape for spec in specs for shape in site_shapes(spec)}))
    attention = tuple(sorted({shape for spec in specs for shape in attention_shapes(spec)}))
    key = hash_parts(shapes, attention, request.thread_count, request.quick, request.execution_provider)
    path = folder / f"this-device-{key[:8]}.json"
    if not path.is_file():
        measured = profile_device(
            name="this-device",
            quick=request.quick,
            disk_path=folder,
            progress=progress,
            thread_count=request.thread_count,
            shapes=shapes,
            attention_shapes=attention,
        )
        write_record(path, measured)
    return [PlacedDevice(read_record(path, DeviceProfile), path)]
