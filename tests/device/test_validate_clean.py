"""Validation where only the device's packages exist, and what its measuring processes import."""

import json
from pathlib import Path

import pytest

from tests.device.clean import FORBIDDEN, run_clean
from tests.device.decoder_graph import TinyDecoder, write_bundle

CHILDREN = ["child_accuracy", "child_sanity", "child_speed", "child_text"]
ALLOWED = {"numpy", "onnxruntime", "psutil", "msgspec", "edgeprune"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("device") / "bundle", TinyDecoder(), question_count=4)


@pytest.mark.parametrize("name", FORBIDDEN)
def test_the_hook_refuses_what_a_device_lacks(name: str) -> None:
    result = run_clean(f"import {name}")
    assert result.returncode == 1
    assert f"not on a device: {name}" in result.stderr


def test_a_bundle_is_validated_with_the_device_packages_alone(bundle: Path) -> None:
    snippet = f"""
import sys
from pathlib import Path
from edgeprune.artifacts import record_json
from edgeprune.schema.budget import Budget
from edgeprune.schema.events import NullProgress
from edgeprune.validate.run import validate_bundles
report = validate_bundles({{"recipe": Path({str(bundle)!r})}}, budget=Budget(latency_s=10.0), device_name="clean",
                          thread_count=1, progress=NullProgress())
sys.stdout.write(record_json(report).decode())
"""
    result = run_clean(snippet)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["verdict"] == "met"
    assert report["measurements"][0]["failures"] == []
    assert report["measurements"][0]["accuracy"][0]["accuracy"] == 1.0


@pytest.mark.parametrize("child", CHILDREN)
def test_a_measuring_process_imports_four_packages(child: str, bundle: Path) -> None:
    """Beside the standard library: numpy, onnxruntime, psutil, msgspec, and edgeprune itself."""
    snippet = f"""
import sys
before = set(sys.modules)
import edgeprune.validate.{child}
from pathlib import Path
from edgeprune.runtime.decode import Decoder
from edgeprune.runtime.session import open_session
session = open_session(Path({str(bundle)!r}) / "model.onnx", thread_count=1)
Decoder(session, max_tokens=8, prefill_chunk_tokens=4).prefill([1])
new = {{name.split(".")[0] for name in set(sys.modules) - before}}
sys.stdout.write(" ".join(sorted(new - set(sys.stdlib_module_names))))
"""
    # msgspec takes typing_extensions where it is there, and does without.
    result = run_clean(snippet, forbidden=(*FORBIDDEN, "typing_extensions"))
    assert result.returncode == 0, result.stderr
    found = {name for name in result.stdout.split() if not name.startswith("_")}
    assert found <= ALLOWED, f"{found - ALLOWED} would not be on every device"
    assert {"numpy", "onnxruntime", "msgspec"} <= found


def test_measuring_modules_belong_to_the_device_side() -> None:
    snippet = "import edgeprune.validate.child_speed, sys; sys.stdout.write(' '.join(sorted(sys.modules)))"
    modules = run_clean(snippet).stdout.split()
    sides = {name.split(".")[1] for name in modules if name.startswith("edgeprune.")}
    assert sides <= {"errors", "units", "schema", "artifacts", "shapes", "runtime", "validate"}
