"""Profiles by name and path; and every number that ships has its source."""

from pathlib import Path
from typing import Any

import msgspec
import platformdirs
import pytest
from msgspec.structs import replace

from edgeprune.errors import UsageError
from edgeprune.profile.store import list_profiles, load_profile, save_profile

SHIPPED = ("intel-n100", "jetson-agx-orin", "jetson-orin-nano", "raspberry-pi-4", "raspberry-pi-5")


@pytest.fixture(autouse=True)
def user_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(platformdirs, "user_data_dir", lambda name: str(tmp_path / name))
    return tmp_path / "edgeprune" / "profiles"


def numbers(value: Any, path: str = "") -> list[str]:
    """Dotted paths of all numbers in a record."""
    if isinstance(value, dict):
        return [found for name, item in value.items() for found in numbers(item, f"{path}.{name}".lstrip("."))]
    if isinstance(value, list | tuple):
        return [found for i, item in enumerate(value) for found in numbers(item, f"{path}.{i}")]
    return [path] if isinstance(value, int | float) and not isinstance(value, bool) else []


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_number_has_a_source(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    assert profile.basis == "datasheet"
    assert profile.peak_bandwidth_bytes_per_s is not None
    assert profile.kernel_times == ()
    assert profile.floor is None
    found = [path for path in numbers(msgspec.to_builtins(profile)) if path != "schema_version"]
    assert len(found) >= 6
    assert [path for path in found if path not in profile.sources] == []
    assert all(len(source) > 20 for source in profile.sources.values())


@pytest.mark.parametrize("name", SHIPPED)
def test_every_source_belongs_to_a_value(name: str) -> None:
    profile = load_profile(name)
    for path in profile.sources:
        value: Any = msgspec.to_builtins(profile)
        for part in path.split("."):
            value = value[int(part)] if isinstance(value, list | tuple) else value[part]
        assert value is not None, path


def test_a_saved_profile_shadows_the_shipped_one(user_folder: Path) -> None:
    shipped = load_profile("raspberry-pi-5")
    path = save_profile(replace(shipped, notes=("mine",)), "raspberry-pi-5")
    assert path == user_folder / "raspberry-pi-5.json"
    assert load_profile("raspberry-pi-5").notes == ("mine",)
    entries = {entry.name: entry.is_saved for entry in list_profiles()}
    assert set(entries) == set(SHIPPED)
    assert entries["raspberry-pi-5"] is True
    assert entries["raspberry-pi-4"] is False


def test_a_path_is_read_as_it_is(tmp_path: Path) -> None:
    path = save_profile(load_profile("intel-n100"), "box")
    moved = path.rename(tmp_path / "elsewhere.json")
    assert load_profile(str(moved)) == load_profile("intel-n100")


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(UsageError, match=r"Unknown device 'pi9'.*intel-n100.*raspberry-pi-5"):
        load_profile("pi9")


def test_a_missing_or_broken_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no device profile at"):
        load_profile(str(tmp_path / "none.json"))
    broken = tmp_path / "broken.json"
    broken.write_text('{"name": 3}')
    with pytest.raises(UsageError, match="not a valid DeviceProfile"):
        load_profile(str(broken))


@pytest.mark.parametrize("name", ["../up", "", ".hidden", "a/b", "x.json", "a" * 80])
def test_a_name_is_a_plain_file_name(name: str) -> None:
    with pytest.raises(UsageError, match="not a device name"):
        save_profile(load_profile("intel-n100"), name)


def test_a_saved_file_that_is_broken_hides_nothing_else(user_folder: Path) -> None:
    user_folder.mkdir(parents=True)
    (user_folder / "bad.json").write_text("{")
    assert {entry.name for entry in list_profiles()} == set(SHIPPED)
    with pytest.raises(UsageError, match=r"bad\.json"):
        load_profile("bad")
