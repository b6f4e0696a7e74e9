"""Meters of a power-zone folder laid out as the kernel lays it out; the folder is what the reader is given."""

from pathlib import Path

import pytest

from edgeprune.runtime.energy import EnergyMeter, open_energy_meter, powercap_counters
from edgeprune.runtime.session import CPU_PROVIDER


def zone(folder: Path, path: str, name: str, energy_uj: int | str, range_uj: int | None = 1_000_000) -> Path:
    made = folder / path
    made.mkdir(parents=True)
    (made / "name").write_text(f"{name}\n", encoding="ascii")
    (made / "energy_uj").write_text(f"{energy_uj}\n", encoding="ascii")
    if range_uj is not None:
        (made / "max_energy_range_uj").write_text(f"{range_uj}\n", encoding="ascii")
    return made / "energy_uj"


def meter_of(folder: Path) -> EnergyMeter:
    meter = open_energy_meter(CPU_PROVIDER, powercap=folder)
    assert meter is not None
    return meter


def test_packages_and_their_memory_add_up_and_what_they_contain_does_not(tmp_path: Path) -> None:
    first = zone(tmp_path, "intel-rapl:0", "package-0", 100_000)
    cores = zone(tmp_path, "intel-rapl:0:0", "core", 50_000)
    memory = zone(tmp_path, "intel-rapl:0:1", "dram", 1_000)
    second = zone(tmp_path, "intel-rapl:1", "package-1", 200_000)
    platform = zone(tmp_path, "intel-rapl:2", "psys", 900_000)
    again = zone(tmp_path, "intel-rapl-mmio:0", "package-0", 100_000)
    (tmp_path / "intel-rapl").mkdir()
    meter = meter_of(tmp_path)
    assert meter.names == ("package-0", "dram", "package-1")
    for path, after in ((first, 350_000), (memory, 41_000), (second, 210_000)):
        path.write_text(str(after), encoding="ascii")
    for path in (cores, platform, again):
        path.write_text("999999", encoding="ascii")
    assert meter.used_j() == pytest.approx(0.25 + 0.04 + 0.01)
    assert meter.used_j() == 0.0


def test_a_counter_that_starts_again_goes_on_counting(tmp_path: Path) -> None:
    path = zone(tmp_path, "intel-rapl:0", "package-0", 900_000)
    meter = meter_of(tmp_path)
    path.write_text("50000", encoding="ascii")
    assert meter.used_j() == pytest.approx(0.15)


def test_a_counter_that_starts_again_without_a_range_says_nothing(tmp_path: Path) -> None:
    path = zone(tmp_path, "intel-rapl:0", "package-0", 900_000, range_uj=None)
    meter = meter_of(tmp_path)
    path.write_text("50000", encoding="ascii")
    assert meter.used_j() is None


def test_a_counter_that_vanishes_says_nothing_until_it_was_read_twice_again(tmp_path: Path) -> None:
    path = zone(tmp_path, "intel-rapl:0", "package-0", 1_000)
    meter = meter_of(tmp_path)
    path.unlink()
    assert meter.used_j() is None
    path.write_text("2000", encoding="ascii")
    assert meter.used_j() is None
    path.write_text("5000", encoding="ascii")
    assert meter.used_j() == pytest.approx(0.003)


@pytest.mark.parametrize("unreadable", ["intel-rapl:0", "intel-rapl:0:1", "intel-rapl:1"])
def test_a_part_of_the_sum_that_cannot_be_read_leaves_no_meter(tmp_path: Path, unreadable: str) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 1_000)
    zone(tmp_path, "intel-rapl:0:1", "dram", 1_000)
    zone(tmp_path, "intel-rapl:1", "package-1", 1_000)
    (tmp_path / unreadable / "energy_uj").unlink()
    assert powercap_counters(tmp_path) == ()
    assert open_energy_meter(CPU_PROVIDER, powercap=tmp_path) is None


def test_without_packages_or_without_the_folder_there_is_no_meter(tmp_path: Path) -> None:
    assert open_energy_meter(CPU_PROVIDER, powercap=tmp_path / "absent") is None
    zone(tmp_path, "dtpm:0", "platform", 1_000)
    assert open_energy_meter(CPU_PROVIDER, powercap=tmp_path) is None
