"""What the daemon must not load: it lives long and idles in little memory."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["edgeprune.jobs.daemon", "edgeprune.jobs.queue", "edgeprune.jobs.solver"])
def test_it_loads_neither_torch_nor_textual_nor_numpy(module: str) -> None:
    heavy = ("torch", "textual", "numpy", "psutil", "httpx")
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
