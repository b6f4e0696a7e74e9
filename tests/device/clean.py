"""Running Python where only the device's packages can be imported.

`run_clean(snippet)` starts a fresh interpreter in which importing torch, transformers, onnx, scipy or safetensors
raises, and so do the processes it starts: the hook comes in through `sitecustomize`, which every interpreter with
that PYTHONPATH loads first.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ["FORBIDDEN", "run_clean"]

FORBIDDEN = ("torch", "transformers", "onnx", "onnx_ir", "onnxscript", "mobius", "optimum", "scipy", "safetensors",
             "sklearn", "peft", "pandas")  # fmt: skip

_ROOT = Path(__file__).resolve().parents[2]

_HOOK = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {forbidden!r}:
            raise ModuleNotFoundError("not on a device: " + name, name=name)
        return None

sys.meta_path.insert(0, Refuse())
"""


def run_clean(
    snippet: str, *, forbidden: tuple[str, ...] = FORBIDDEN, timeout_s: float = 120.0
) -> "subprocess.CompletedProcess[str]":
    """Run Python code; stdout, stderr and the exit status come back as they are."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "sitecustomize.py").write_text(_HOOK.format(forbidden=set(forbidden)), encoding="utf-8")
        environment = os.environ | {"PYTHONPATH": os.pathsep.join((folder, str(_ROOT)))}
        return subprocess.run(
            [sys.executable, "-c", snippet],
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
