"""Accelerators: what the driver does not tell is None, and memory is called unified only where that is known."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgeprune.profile.accelerators import describe_nvidia, find_accelerators, read_compatible


class NVMLError(Exception):
    """Stands for pynvml's own."""


def driver(name: str, *, memory: tuple[int, int] | None, capability: tuple[int, int] | None) -> Any:
    """An NVML that knows one GPU; figures that are None are answered with NOT_SUPPORTED."""

    def answer(value: Any) -> Any:
        def call(*_: object) -> Any:
            if value is None:
                raise NVMLError("Not Supported")
            return value

        return call

    return SimpleNamespace(
        NVMLError=NVMLError,
        nvmlDeviceGetName=answer(name.encode()),
        nvmlDeviceGetMemoryInfo=answer(memory and SimpleNamespace(total=memory[0], free=memory[1])),
        nvmlDeviceGetCudaComputeCapability=answer(capability),
    )


def test_a_card_with_memory_of_its_own() -> None:
    notes: list[str] = []
    found = describe_nvidia(
        driver("NVIDIA H200", memory=(150 << 30, 149 << 30), capability=(9, 0)), 0, "580.1", "", notes
    )
    assert (found.name, found.kind, found.driver_version) == ("NVIDIA H200", "cuda", "580.1")
    assert (found.total_bytes, found.free_bytes, found.is_unified) == (150 << 30, 149 << 30, False)
    assert found.compute_capability == "9.0"
    assert notes == []


@pytest.mark.parametrize("memory", [None, (0, 0)])
def test_unsupported_memory_is_unknown_and_not_zero(memory: tuple[int, int] | None) -> None:
    notes: list[str] = []
    found = describe_nvidia(driver("NVIDIA GB10", memory=memory, capability=None), 0, None, "", notes)
    assert (found.total_bytes, found.free_bytes, found.compute_capability) == (None, None, None)
    assert found.is_unified is True
    assert len(notes) == 1


def test_a_card_whose_memory_is_unknown_is_not_called_unified() -> None:
    found = describe_nvidia(driver("NVIDIA A100", memory=None, capability=(8, 0)), 0, None, "", [])
    assert found.is_unified is None


def test_a_jetson_is_unified_by_its_device_tree() -> None:
    tree = "nvidia,p3768-0000+p3767-0005 nvidia,tegra234"
    found = describe_nvidia(driver("Orin (nvgpu)", memory=None, capability=(8, 7)), 0, None, tree, [])
    assert (found.is_unified, found.total_bytes) == (True, None)


def test_this_machine_reports_no_zero() -> None:
    found, _ = find_accelerators(measures_copy=False)
    for accelerator in found:
        assert accelerator.total_bytes is None or accelerator.total_bytes > 0
        assert accelerator.copy_bandwidth_bytes_per_s is None


def test_a_device_tree_is_read_as_words(tmp_path: Path) -> None:
    (tmp_path / "compatible").write_bytes(b"nvidia,p3768-0000+p3767-0005\0nvidia,tegra234\0")
    assert read_compatible(tmp_path / "compatible").split() == ["nvidia,p3768-0000+p3767-0005", "nvidia,tegra234"]
    assert read_compatible(tmp_path / "none") == ""
