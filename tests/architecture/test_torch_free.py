"""The device side imports in an interpreter that refuses torch, transformers, onnx and scipy."""

import subprocess
import sys
from pathlib import Path

import pytest

import edgeprune

PACKAGE = Path(edgeprune.__file__).parent
DEVICE_ROOMS = ("errors", "units", "schema", "artifacts", "shapes", "rounding", "chat_template", "runtime", "profile",
                "predict", "search", "validate", "report", "generate", "pipeline", "api", "jobs", "cli",
                "tui")  # fmt: skip
REFUSED = ("torch", "transformers", "onnx", "onnx_ir", "onnxscript", "optimum", "mobius", "scipy", "sklearn",
           "safetensors", "tokenizers", "huggingface_hub")  # fmt: skip

GUARD = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {refused!r}:
            raise ImportError("the device side must not import " + name)
sys.meta_path.insert(0, Refuse())
import importlib
for name in {modules!r}:
    importlib.import_module(name)
"""


def modules() -> list[str]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(PACKAGE)
        if relative.parts[0].removesuffix(".py") in DEVICE_ROOMS and "child" not in path.stem:
            found.append(".".join(["edgeprune", *relative.with_suffix("").parts]).removesuffix(".__init__"))
    families = sorted((PACKAGE / "intake" / "families").glob("*.py"))
    found += [f"edgeprune.intake.families.{path.stem}" for path in families if path.stem != "__init__"]
    intake = [f"edgeprune.intake.{name}" for name in ("spec", "source", "weights", "described", "catalogue")]
    return [*found, *intake, "edgeprune.demo.paths"]


def run_clean(code: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(PACKAGE.parent)},
    )


def test_every_device_module_imports_without_the_host_libraries(tmp_path: Path) -> None:
    done = run_clean(GUARD.format(refused=set(REFUSED), modules=modules()), tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    "verb",
    [
        "run",
        "profile",
        "fit",
        "plan",
        "search",
        "explain",
        "validate",
        "report",
        "demo",
        "doctor",
        "generate",
        "chat",
        "serve",
        "jobs",
        "attach",
        "cancel",
        "resume",
        "daemon",
    ],
)
def test_help_needs_neither_torch_nor_onnxruntime(verb: str, tmp_path: Path) -> None:
    code = GUARD.format(refused=set(REFUSED) | {"onnxruntime"}, modules=["edgeprune.cli.main"])
    done = run_clean(
        code + f"\nfrom edgeprune.cli.main import run_app\nsys.exit(run_app([{verb!r}, '--help']))", tmp_path
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Usage: edgeprune" in done.stdout
