"""Where a model comes from: a folder, the hub's cache, or a clear sentence."""

from pathlib import Path

import pytest

from edgeprune.errors import ModelError
from edgeprune.intake.source import resolve_model
from tests.tiny import write_tiny_llama


def test_a_folder_is_itself(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "m")
    assert resolve_model(str(folder)) == folder


@pytest.mark.parametrize("name", ["./none", "/none/at/all", "~/none-of-it", "a/b/c", "two words", "x:y"])
def test_a_path_that_is_missing(name: str) -> None:
    with pytest.raises(ModelError, match="is missing: no such folder"):
        resolve_model(name)


def test_a_file_and_an_empty_folder_and_an_empty_name(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"x")
    with pytest.raises(ModelError, match="is a file"):
        resolve_model(str(path))
    with pytest.raises(ModelError, match=r"has no config\.json"):
        resolve_model(str(tmp_path))
    with pytest.raises(ModelError, match="empty name"):
        resolve_model(" ")


@pytest.mark.parametrize("name", ["org/name", "org/name@main", "gpt2"])
def test_a_hub_that_cannot_be_reached(name: str, tmp_path: Path) -> None:
    result = _resolve_in_fresh_process(name, tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert f"The model {name} is no folder, and the hub cannot be reached" in result


def test_offline_names_the_variable(tmp_path: Path) -> None:
    assert "HF_HUB_OFFLINE forbids" in _resolve_in_fresh_process("org/name", tmp_path, HF_HUB_OFFLINE="1")


@pytest.mark.parametrize("name", ["org/tiny", "org/tiny@main"])
def test_offline_uses_the_cache_of_hf_home(name: str, tmp_path: Path) -> None:
    root = tmp_path / "hub" / "models--org--tiny"
    snapshot = write_tiny_llama(root / "snapshots" / ("a" * 40))
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("a" * 40)
    assert _resolve_in_fresh_process(name, tmp_path, HF_HUB_OFFLINE="1") == str(snapshot)


def _resolve_in_fresh_process(name: str, home: Path, **environment: str) -> str:
    """Fresh because huggingface_hub reads its variables once, at import."""
    import os
    import subprocess
    import sys

    script = (
        "import sys\n"
        "from edgeprune.errors import ModelError\n"
        "from edgeprune.intake.source import resolve_model\n"
        "try:\n"
        "    print(resolve_model(sys.argv[1]))\n"
        "except ModelError as error:\n"
        "    print(error)\n"
    )
    clean = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", script, name],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parents[3],
        env={**clean, "HF_HOME": str(home), **environment},
    )
    return done.stdout.strip()
