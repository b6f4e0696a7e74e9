"""`edgeprune demo`: what it prints, that it measures here, and bad input."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from edgeprune.artifacts import hash_file
from edgeprune.demo.paths import demo_device_path
from edgeprune.pipeline import demo
from tests.cli.conftest import Cli
from tests.device.clean import FORBIDDEN, run_clean

BOARD = "raspberry-pi-5"
SOLVE = ("demo", "--device", BOARD, "--no-validate")


def test_it_says_that_it_is_a_demo_and_shows_the_front(cli: Cli) -> None:
    answer = cli(*SOLVE, "--disk", "3MB")
    assert answer.code == 0, answer.err
    first = answer.out.splitlines()[0]
    assert first.startswith("This is a demo")
    assert "no claim of quality" in first
    assert "limit 3.00 MB" in answer.out
    for label in ("dense", "int8", "int4", "* recipe"):
        assert label in answer.out
    assert "n/a" in answer.out  # nothing was measured, and nothing pretends to be
    assert "verdict: met" in answer.out
    assert "took: profile" in answer.out


def test_json_is_one_record_with_the_notice(cli: Cli) -> None:
    answer = cli(*SOLVE, "--json")
    assert answer.code == 0, answer.err
    report = answer.json
    assert report["schema_version"] == 1
    assert report["verdict"] == "met"
    assert report["validation"] is None
    assert "demo" in str(report["notice"])


def test_an_impossible_budget_is_a_negative_answer(cli: Cli) -> None:
    answer = cli(*SOLVE, "--disk", "100kB", "--json")
    assert answer.code == 1
    assert answer.json["verdict"] == "not_met"
    assert "disk" in answer.err.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--device", "no-such-board"], ["no-such-board", BOARD]),
        (["--device", "no/such/profile.json"], ["no/such/profile.json"]),
        (["--memory", "300"], ["--memory", "no unit"]),
        (["--latency", "5MB"], ["--latency", "unknown unit"]),
        (["--max-loss", "much"], ["--max-loss"]),
        (["--context", "8"], ["--context", "too short"]),
        (["--context", "100000"], ["--context", "longer than the model's"]),
        (["--threads", "0"], ["--threads"]),
        (["--memory", "60%"], ["--memory", "floor"]),
        (["a-model"], ["a-model"]),
    ],
)
def test_bad_input(cli: Cli, flags: list[str], words: list[str]) -> None:
    defaults = [] if "--device" in flags else ["--device", BOARD]
    answer = cli("demo", "--no-validate", *defaults, *flags)
    assert answer.code == 2, answer.err
    last = answer.err.strip().splitlines()[-1]
    assert last.startswith("edgeprune: ")
    assert all(word in last for word in words), last
    assert answer.out == ""


def test_damaged_device_data_is_refused(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = Path(shutil.copytree(demo_device_path(), tmp_path / "device"))
    weights = copied / "int4" / "model.onnx.data"
    data = bytearray(weights.read_bytes())
    data[1000] ^= 255
    weights.write_bytes(data)
    monkeypatch.setattr(demo, "demo_device_path", lambda: copied)
    answer = cli(*SOLVE)
    assert answer.code == 3
    assert "model.onnx.data" in answer.err
    assert answer.out == ""


@pytest.mark.slow
def test_the_whole_demo_runs_where_only_the_device_packages_are() -> None:
    """Profile, solve and validation in an interpreter without torch; the package folder stays as it was."""

    def listing() -> dict[str, str]:
        files = (path for path in demo_device_path().rglob("*") if path.is_file())
        return {str(path): hash_file(path) for path in files}

    before = listing()
    code = "import sys; from edgeprune.cli.main import run_app; sys.exit(run_app(['demo', '--disk', '60%', '--json']))"
    done = run_clean(code, forbidden=(*FORBIDDEN, "tokenizers"), timeout_s=800.0)
    assert done.returncode in (0, 1), done.stderr[-2000:]
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["default"]["budget"]["origin"] == "default"
    assert report["asked"]["chosen"] is not None
    figures = {figure["name"]: figure for figure in report["figures"]}
    for name in ("disk_bytes", "peak_rss_bytes", "model_memory_bytes", "decode_s", "bits_per_byte.domain"):
        assert figures[name]["predicted"] > 0
        assert figures[name]["measured"] > 0
        assert figures[name]["relative_error"] is not None
    for name in ("accuracy.frequent", "accuracy.rare", "bits_per_byte.general"):
        assert figures[name]["measured"] is not None
    # The device computes what torch computed of the same weights, question by question nearly.
    parity = [check for check in report["validation"]["checks"] if check["quantity"] == "parity"]
    assert len(parity) == 4
    assert report["verdict"] == ("met" if all(check["verdict"] == "met" for check in parity) else "not_met")
    assert abs(figures["disk_bytes"]["relative_error"]) < 0.01
    assert set(report["took_s"]) == {"profile", "solve", "validate", "total"}
    assert listing() == before
