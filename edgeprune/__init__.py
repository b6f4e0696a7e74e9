"""EdgePrune: get a language model onto a given device within a given budget, and prove it there.

Importing the package is cheap and torch-free; the names below load their modules on first use (PEP 562), because
`edgeprune.load` needs torch and a device has none.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeprune.api import compress, export, plan, profile, report, run, search, validate
    from edgeprune.compress.load import load

__all__ = ["__version__", "compress", "export", "load", "plan", "profile", "report", "run", "search", "validate"]

__version__ = "0.1.0"

_HOMES = {
    "compress": "edgeprune.api",
    "export": "edgeprune.api",
    "load": "edgeprune.compress.load",
    "plan": "edgeprune.api",
    "profile": "edgeprune.api",
    "report": "edgeprune.api",
    "run": "edgeprune.api",
    "search": "edgeprune.api",
    "validate": "edgeprune.api",
}


def __getattr__(name: str) -> Any:
    """Load a public name from the module that owns it."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'edgeprune' has no attribute {name!r}")
    return getattr(import_module(home), name)
