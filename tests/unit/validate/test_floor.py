"""The floor and the measured process differ by the model alone: they import the same modules."""

import subprocess
import sys
from pathlib import Path

LOADED = "import sys; print(' '.join(name for name in sys.modules if not name.startswith('edgeprune')))"


def imported(code: str) -> set[str]:
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; {LOADED}"], capture_output=True, text=True, check=True, cwd=root
    )
    return set(done.stdout.split())


def test_the_floor_imports_what_the_measured_process_imports() -> None:
    measured = imported("import onnxruntime, edgeprune.validate.child_speed")
    names = "from edgeprune.runtime.floor import VALIDATION_IMPORTS"
    floor = imported(
        f"{names}; import importlib, onnxruntime; [importlib.import_module(n) for n in VALIDATION_IMPORTS]"
    )
    assert floor == measured
