"""Disk speed is of a file that was really written and is gone afterwards; conditions say only what is known."""

from pathlib import Path

import pytest

from edgeprune.errors import UsageError
from edgeprune.profile.conditions import disturbances, read_conditions
from edgeprune.profile.disk import measure_disk
from edgeprune.schema.device import Conditions


def test_a_speed_and_no_leftovers(tmp_path: Path) -> None:
    info = measure_disk(tmp_path, file_bytes=2 << 20, sample_count=2)
    assert info.read_bytes_per_s is not None
    assert info.read_bytes_per_s > 1e5
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_does_not_exist_yet_is_measured_at_its_parent(tmp_path: Path) -> None:
    assert measure_disk(tmp_path / "a" / "b", file_bytes=1 << 20, sample_count=1).read_bytes_per_s is not None
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_the_users_to_change(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object, **__: object) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", refuse)  # root may write everywhere
    with pytest.raises(UsageError, match="choose another with -o"):
        measure_disk(tmp_path, file_bytes=1 << 20, sample_count=1)


def test_an_empty_system_tells_nothing(tmp_path: Path) -> None:
    conditions = read_conditions(sys=tmp_path)
    assert (conditions.governor, conditions.temperature_c, conditions.is_throttled) == (None, None, None)


def board(tmp_path: Path, *, ceiling: str = "2400000") -> Path:
    frequency = tmp_path / "devices/system/cpu/cpu0/cpufreq"
    zone, other = (tmp_path / f"class/thermal/thermal_zone{i}" for i in range(2))
    for folder in (frequency, zone, other):
        folder.mkdir(parents=True)
    (frequency / "scaling_governor").write_text("ondemand\n")
    (frequency / "scaling_max_freq").write_text(ceiling + "\n")
    (frequency / "cpuinfo_max_freq").write_text("2400000\n")
    (zone / "temp").write_text("61250\n")
    (zone / "type").write_text("cpu-thermal\n")
    (other / "temp").write_text("90000\n")
    (other / "type").write_text("battery\n")
    return tmp_path


def test_governor_temperature_and_a_lowered_ceiling(tmp_path: Path) -> None:
    conditions = read_conditions(sys=board(tmp_path))
    assert (conditions.governor, conditions.temperature_c, conditions.is_throttled) == ("ondemand", 61.25, False)


def test_a_lowered_ceiling_is_throttling(tmp_path: Path) -> None:
    assert read_conditions(sys=board(tmp_path, ceiling="1500000")).is_throttled is True


@pytest.mark.parametrize(("text", "is_throttled"), [("0x0", False), ("0x50000", False), ("0x50005", True), ("4", True)])
def test_raspberry_firmware_word_counts_only_what_is_so_now(tmp_path: Path, text: str, is_throttled: bool) -> None:
    folder = tmp_path / "devices/platform/soc/soc:firmware"
    folder.mkdir(parents=True)
    (folder / "get_throttled").write_text(text + "\n")
    assert read_conditions(sys=tmp_path).is_throttled is is_throttled


def test_disturbances_are_sentences() -> None:
    quiet = Conditions(governor="performance", temperature_c=40.0, is_throttled=False, load_1min=0.1)
    busy = Conditions(governor="powersave", temperature_c=90.0, is_throttled=True, load_1min=5.0)
    assert disturbances(quiet, quiet, usable_core_count=4) == ()
    found = disturbances(busy, busy, usable_core_count=4)
    assert len(found) == 3
    assert "load 5.0" in found[0]
    assert "throttled" in found[1]
    unknown = Conditions(governor=None, temperature_c=None, is_throttled=None, load_1min=None)
    assert disturbances(unknown, unknown, usable_core_count=4) == ()
