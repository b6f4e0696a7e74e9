"""What lies ready before any job ran: device profiles, and models of the hub cache. Read in a thread.

The hub cache is read as folders (`models--org--name/snapshots/<revision>/config.json`), so nothing is downloaded and
huggingface_hub need not be installed.
"""

from collections.abc import Mapping
from pathlib import Path

from edgeprune.tui.view_state import ModelOption, NamedProfile

__all__ = ["hub_cache", "list_models", "list_named_profiles"]


def list_named_profiles() -> tuple[NamedProfile, ...]:
    """Saved profiles first, then those that ship; one that cannot be read is left out."""
    from edgeprune.profile.store import list_profiles, load_profile  # numpy, which the first paint does without

    found = [NamedProfile(entry.name, entry.is_saved, load_profile(str(entry.path))) for entry in list_profiles()]
    return tuple(sorted(found, key=lambda entry: (not entry.is_saved, entry.name)))


def hub_cache(environ: Mapping[str, str]) -> Path:
    """Where huggingface_hub keeps its snapshots."""
    if environ.get("HF_HUB_CACHE"):
        return Path(environ["HF_HUB_CACHE"]).expanduser()
    home = environ.get("HF_HOME")
    return (Path(home).expanduser() if home else Path.home() / ".cache" / "huggingface") / "hub"


def list_models(cache: Path, demo: Path) -> tuple[ModelOption, ...]:
    """The demo model, then every cached hub model that has its configuration and weights."""
    found = [ModelOption("", "ships with EdgePrune", _weights_bytes(demo))]
    for folder in sorted(cache.glob("models--*--*")):
        snapshots = [path.parent for path in folder.glob("snapshots/*/config.json")]
        if snapshots and (size := _weights_bytes(snapshots[-1])):
            name = folder.name.removeprefix("models--").replace("--", "/")
            found.append(ModelOption(name, "hub cache", size))
    return tuple(found)


def _weights_bytes(folder: Path) -> int | None:
    """Bytes of the weight files; None where there are none."""
    try:
        return sum(path.stat().st_size for path in folder.glob("*.safetensors")) or None
    except OSError:
        return None
