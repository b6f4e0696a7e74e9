"""Versions of the tool and of the libraries that decide its results."""

import platform
from importlib.metadata import PackageNotFoundError, version

from edgeprune import __version__

__all__ = ["tool_versions"]

_LIBRARIES = (
    "numpy", "onnxruntime", "onnxruntime-gpu", "highspy", "torch", "transformers", "optimum", "mobius-onnx", "onnx-ir",
    "safetensors", "tokenizers",
)  # fmt: skip


def tool_versions() -> dict[str, str]:
    """Name -> version of what is installed; absent libraries are left out."""
    found = {"edgeprune": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
