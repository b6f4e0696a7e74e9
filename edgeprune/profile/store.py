"""Device profiles by name: shipped ones in the package, saved ones in the user's data folder, or any file.

A saved profile shadows a shipped one of the same name. In a wheel the shipped ones lie in `edgeprune/profiles/`, in a
checkout in `profiles/` beside the package.
"""

import re
from pathlib import Path

import platformdirs

from edgeprune.artifacts import read_record, write_record
from edgeprune.errors import UsageError
from edgeprune.schema.base import Basis, Record
from edgeprune.schema.device import DeviceProfile

__all__ = ["ProfileEntry", "check_name", "list_profiles", "load_profile", "save_profile"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class ProfileEntry(Record, frozen=True, kw_only=True):
    """One profile that can be named."""

    name: str
    path: Path
    basis: Basis
    is_saved: bool
    """True in the user's data folder, False when it came with the package."""


def load_profile(name_or_path: str) -> DeviceProfile:
    """The profile of that name, or in that `.json` file.

    Raises:
        UsageError: no such profile (the message lists those there are), or a file that is none.
    """
    path = Path(name_or_path)
    if path.suffix == ".json" or path.is_file():
        if not path.is_file():
            raise UsageError(f"There is no device profile at {path}; write one with edgeprune profile --json.")
        return read_record(path, DeviceProfile, error=UsageError)
    found = _paths().get(name_or_path)
    if found is None:
        known = ", ".join(sorted(_paths())) or "none"
        raise UsageError(
            f"Unknown device {name_or_path!r}; known are {known}. Measure one with edgeprune profile --save NAME, "
            "or give the path of a profile's .json."
        )
    return read_record(found, DeviceProfile, error=UsageError)


def save_profile(profile: DeviceProfile, name: str) -> Path:
    """Save a profile under a name for this user; return where.

    Raises:
        UsageError: a name that is no plain file name, or a folder that cannot be written.
    """
    check_name(name)
    path = _saved_folder() / f"{name}.json"
    write_record(path, profile)
    return path


def check_name(name: str) -> None:
    """Refuse what cannot be the name of a saved profile.

    Raises:
        UsageError: it is no plain file name.
    """
    if _NAME.fullmatch(name) is None or name.endswith(".json"):
        raise UsageError(f"{name!r} is not a device name; use letters, digits, dots, dashes and underscores.")


def list_profiles() -> list[ProfileEntry]:
    """All profiles that can be named, by name; a file that cannot be read is left out."""
    entries = []
    for name, path in sorted(_paths().items()):
        try:
            profile = read_record(path, DeviceProfile, error=UsageError)
        except UsageError:
            continue
        is_saved = path.parent == _saved_folder()
        entries.append(ProfileEntry(name=name, path=path, basis=profile.basis, is_saved=is_saved))
    return entries


def _saved_folder() -> Path:
    return Path(platformdirs.user_data_dir("edgeprune")) / "profiles"


def _shipped_folder() -> Path:
    package = Path(__file__).resolve().parents[1]
    in_wheel = package / "profiles"
    return in_wheel if in_wheel.is_dir() else package.parent / "profiles"


def _paths() -> dict[str, Path]:
    return {
        path.stem: path for folder in (_shipped_folder(), _saved_folder()) for path in sorted(folder.glob("*.json"))
    }
