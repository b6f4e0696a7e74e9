"""The base install in an environment of its own: the device verbs run without torch, transformers, onnx and scipy."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Inputs

REPOSITORY = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def device_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with `pip install ".[cpu]"` and nothing else."""
    root = tmp_path_factory.mktemp("device") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(root)], check=True)
    python = root / "bin" / "python"
    done = subprocess.run(
        [str(python), "-m", "pip", "install", "-q", f"{REPOSITORY}[cpu]"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return python


def call(python: Path, *arguments: object) -> tuple[int, str, str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(python.with_name("edgeprune")), *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=python.parent,
        timeout=300,
    )
    return done.returncode, done.stdout, done.stderr


def test_host_libraries_are_absent(device_python: Path) -> None:
    code = "import importlib.util as u; print([n for n in ('torch','transformers','onnx','scipy') if u.find_spec(n)])"
    done = subprocess.run([str(device_python), "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_device_verbs_run(device_python: Path, own_run: Path, inputs: Inputs) -> None:
    verbs: list[tuple[list[object], set[int]]] = [
        (["doctor", "--json"], {0}),
        (["profile", "--quick", "--json"], {0}),
        (["plan", inputs.model, "--device", "raspberry-pi-5", "--json"], {0, 1, 4}),
        (["plan", inputs.model, "--memory", "500MB", "--json"], {0}),
        (["fit", "gpt2", inputs.model, "--device", "raspberry-pi-5", "--json"], {0}),
        (["search", own_run, "--disk", "95%", "--json"], {0}),
        (["validate", own_run / "bundle", "--json"], {0, 1}),
        (["report", own_run, "--json"], {0, 1}),
    ]
    for arguments, codes in verbs:
        code, out, err = call(device_python, *arguments)
        assert code in codes, (arguments, err)
        answer: dict[str, Any] = json.loads(out)
        assert answer["schema_version"] == 1
    assert any((device_python.parents[1]).rglob("edgeprune/profiles/raspberry-pi-5.json"))


def test_host_verbs_say_what_to_install(device_python: Path, inputs: Inputs, tmp_path: Path) -> None:
    code, _, err = call(
        device_python,
        "run",
        inputs.model,
        "--domain",
        inputs.domain,
        "--device",
        "raspberry-pi-5",
        "-o",
        tmp_path / "o",
    )
    assert code == 4
    assert "edgeprune[compress]" in err.strip().splitlines()[-1]
