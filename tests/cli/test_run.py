"""The whole thread on a tiny model: what comes out, what runs again, and that the numbers are really measured."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from edgeprune.artifacts import hash_file, hash_parts, read_arrays, read_record, write_arrays, write_record
from edgeprune.schema.bundle import BundleFile, BundleManifest
from edgeprune.schema.report import RunReport
from tests.cli.conftest import Cli, Inputs

pytestmark = pytest.mark.slow


def run_arguments(inputs: Inputs, output: Path, *more: object) -> list[object]:
    return [
        "run", inputs.model, "--domain", inputs.domain, "--questions", inputs.questions,
        "--context", "128", "--quick", "-o", output, *more,
    ]  # fmt: skip


def test_the_run_folder_holds_what_the_readme_says(finished: Path) -> None:
    names = {path.name for path in finished.iterdir() if not path.name.startswith(".")}
    assert names >= {
        "device.json", "model.json", "scores.json", "scores.npz", "stats.safetensors", "front.json", "recipe.toml",
        "residuals.json", "evaluations",
        "hf", "bundle", "baselines", "validation.json", "report.json", "report.md", "report.html", "events.jsonl",
        "manifest.json", "texts",
    }  # fmt: skip
    assert {path.name for path in (finished / "baselines").iterdir()} == {"dense", "int8", "int4"}
    assert {"model.onnx", "model.onnx.data", "genai_config.json", "tokenizer.json", "edgeprune.json", "README.md"} <= {
        path.name for path in (finished / "bundle").iterdir()
    }


def test_the_bundle_really_is_smaller(finished: Path) -> None:
    def size(folder: Path) -> int:
        return sum((folder / name).stat().st_size for name in ("model.onnx", "model.onnx.data"))

    assert size(finished / "bundle") < size(finished / "baselines" / "int8") < size(finished / "baselines" / "dense")


def test_every_number_of_the_report_is_marked_and_measured_where_it_can_be(finished: Path) -> None:
    report = read_record(finished / "report.json", RunReport)
    assert [row.label for row in report.rows] == ["dense", "int8", "int4", "recipe"]
    recipe = {item.name: item for item in report.rows[-1].quantities}
    for name in ("disk_bytes", "peak_rss_bytes", "model_memory_bytes", "decode_s", "bits_per_byte.domain"):
        assert recipe[name].value is not None
        assert recipe[name].basis == "measured"
    html = (finished / "report.html").read_text()
    assert "<svg" in html
    assert not re.search(r'(src|href)="https?:', html)
    assert "http-equiv" not in html or "script" not in html


def test_the_same_command_again_runs_nothing(cli: Cli, inputs: Inputs, own_run: Path) -> None:
    answer = cli(*run_arguments(inputs, own_run, "--json"))
    assert answer.err.count("finished before") == 10, answer.err
    outcome = answer.json
    assert outcome["schema_version"] == 1
    assert outcome["verdict"] in ("met", "not_met")
    assert answer.code == (0 if outcome["verdict"] == "met" else 1)


def test_a_new_budget_runs_only_the_search_and_what_follows(cli: Cli, inputs: Inputs, own_run: Path) -> None:
    answer = cli(*run_arguments(inputs, own_run, "--disk", "90%", "--dry-run", "--json"))
    states = answer.json["stages"]
    assert isinstance(states, dict)
    finished = {name for name, state in states.items() if state == "finished"}
    assert finished == {"intake", "profile", "calibrate", "baselines"}


def test_changed_domain_text_is_not_served_from_the_cache(cli: Cli, inputs: Inputs, own_run: Path) -> None:
    changed = own_run.parent / "other.jsonl"
    changed.write_text(inputs.domain.read_text().replace("doctor", "teacher"))
    arguments = run_arguments(inputs, own_run, "--dry-run", "--json")
    arguments[arguments.index(inputs.domain)] = changed
    states = cli(*arguments).json["stages"]
    assert isinstance(states, dict)
    assert states["profile"] == "finished"
    assert states["calibrate"] == "run"


def test_an_edited_recipe_runs_as_written(cli: Cli, own_run: Path) -> None:
    recipe = own_run / "recipe.toml"
    text = recipe.read_text()
    other = "int8_b32_a4" if 'table_kernel = "int4_b32_a4"' in text else "int4_b32_a4"
    edited = re.sub(r'table_kernel = "[^"]*"', f'table_kernel = "{other}"', text)
    edited = re.sub(r"drop_blocks = \[[^]]*\]", "drop_blocks = []", edited)
    recipe.write_text(edited)
    assert cli("compress", own_run).code == 0
    assert cli("export", own_run).code == 0
    manifest = read_record(own_run / "bundle" / "edgeprune.json", BundleManifest)
    assert manifest.spec.table_kernel == other
    answer = cli("search", own_run)
    assert answer.code in (0, 1)
    assert (own_run / "recipe.edited.toml").read_text() == edited


def test_search_and_report_write_json(cli: Cli, own_run: Path) -> None:
    answer = cli("search", own_run, "--disk", "95%", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["schema_version"] == 1
    shutil.rmtree(own_run / "hf")
    answer = cli("report", own_run, "--json")
    assert answer.json["verdict"] in ("met", "not_met")


def test_search_builds_recipes_only_when_asked(cli: Cli, own_run: Path) -> None:
    def count() -> int:
        return len(list((own_run / "evaluations").glob("*.json")))

    before = count()
    assert before > 0
    assert cli("search", own_run, "--disk", "90%", "--json").code == 0
    assert count() == before
    answer = cli("search", own_run, "--disk", "90%", "--evaluations", "2", "--json")
    assert answer.code == 0, answer.err
    assert count() <= before + 2
    chosen: Any = answer.json["chosen"]
    assert chosen["measured_loss_increase_nats"] is not None
    assert "built" in cli("search", own_run, "--disk", "90%", "--evaluations", "2").out
    assert cli("search", own_run, "--disk", "90%", "--evaluations", "0").code == 0
    assert count() <= before + 2


def test_a_budget_below_the_floor_says_so(cli: Cli, own_run: Path) -> None:
    answer = cli("search", own_run, "--memory", "10MB")
    assert answer.code == 1
    assert "floor" in answer.err
    assert "10" in answer.err


def test_an_infeasible_budget_names_what_binds_and_the_nearest(cli: Cli, own_run: Path) -> None:
    answer = cli("search", own_run, "--disk", "20kB")
    assert answer.code == 1
    assert "disk" in answer.err
    assert "--disk" in answer.err


def rehash(bundle: Path) -> None:
    """Make the manifest's hashes those of the changed files, as an attacker or a bad tool would."""
    path = bundle / "edgeprune.json"
    manifest = read_record(path, BundleManifest)
    files = tuple(
        BundleFile(
            path=entry.path,
            size_bytes=(bundle / entry.path).stat().st_size,
            sha256=hash_file(bundle / entry.path),
        )
        for entry in manifest.files
    )
    write_record(path, replace(manifest, files=files, files_sha256=hash_parts(files)))


def measured(bundle: Path, cli: Cli) -> tuple[float, str]:
    answer = cli("validate", bundle, "--json")
    report: Any = answer.json
    return report["measurements"][0]["accuracy"][0]["accuracy"], report["verdict"]


def test_shuffled_answers_change_the_accuracy(cli: Cli, own_run: Path) -> None:
    bundle = own_run / "bundle"
    before, verdict = measured(bundle, cli)
    assert verdict == "met"
    path = bundle / "eval" / "questions.npz"
    arrays = read_arrays(path)
    truth = arrays["answers"].copy()
    arrays["answers"] = (truth + 1 + np.arange(len(truth)) % 3).astype(truth.dtype) % 4
    write_arrays(path, arrays)
    rehash(bundle)
    after, _ = measured(bundle, cli)
    assert after != before


def test_corrupted_weights_change_the_verdict(cli: Cli, own_run: Path) -> None:
    bundle = own_run / "bundle"
    path = bundle / "model.onnx.data"
    data = bytearray(path.read_bytes())
    generator = np.random.default_rng(0)
    for position in generator.choice(len(data), size=len(data) // 100, replace=False):
        data[position] = int(generator.integers(0, 256))
    path.write_bytes(bytes(data))
    rehash(bundle)
    answer = cli("validate", bundle, "--json")
    assert answer.code in (1, 3, 4), answer.out
    if answer.out:
        assert answer.json["verdict"] != "met"


def test_a_loss_limit_that_cannot_be_judged_is_unmeasured(cli: Cli, own_run: Path) -> None:
    bundle = own_run / "bundle"
    path = bundle / "edgeprune.json"
    manifest = json.loads(path.read_text())
    manifest["budget"] = {"max_loss": 0.5}
    manifest["texts"] = []
    path.write_text(json.dumps(manifest))
    answer = cli("validate", bundle)
    assert answer.code == 4
    assert "loss" in answer.out
    assert "unmeasured" in answer.out


def child(arguments: list[object], **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "edgeprune", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        **options,
    )


def test_a_full_disk_leaves_no_half_written_bundle(own_run: Path) -> None:
    """A limit on file sizes stands in for the full disk: writing fails half way through the weights."""
    before = {path.name: hash_file(path) for path in (own_run / "bundle").iterdir() if path.is_file()}
    small = (own_run / "bundle" / "model.onnx.data").stat().st_size // 2

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (small, small))

    process = child(["export", own_run], preexec_fn=limit)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 4, err
    assert "disk" in err.strip().splitlines()[-1]
    assert {path.name: hash_file(path) for path in (own_run / "bundle").iterdir() if path.is_file()} == before
    assert not [path for path in own_run.iterdir() if path.name.startswith(".bundle")]


def test_too_little_memory_is_a_sentence(own_run: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (700 * 2**20, 700 * 2**20))

    process = child(["export", own_run], preexec_fn=limit)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 4, err
    assert "memory" in err.strip().splitlines()[-1]


def test_interrupted_keeps_finished_stages_and_resumes(cli: Cli, inputs: Inputs, tmp_path: Path) -> None:
    output = tmp_path / "out"
    process = child(run_arguments(inputs, output))
    manifest = output / "manifest.json"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if manifest.is_file() and '"profile"' in manifest.read_text():
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "interrupted" in err
    answer = cli(*run_arguments(inputs, output))
    assert answer.err.count("finished before") >= 2
    assert (output / "report.json").is_file()


def test_a_missing_runtime_is_named(tmp_path: Path, own_run: Path) -> None:
    shadow = tmp_path / "onnxruntime"
    shadow.mkdir()
    (shadow / "__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'onnxruntime'\")")
    done = subprocess.run(
        [sys.executable, "-m", "edgeprune", "validate", str(own_run / "bundle")],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"},
    )
    assert done.returncode == 4
    assert "onnxruntime is not installed" in done.stderr


def test_records_of_the_python_interface_are_those_of_the_command_line(cli: Cli, own_run: Path) -> None:
    from edgeprune import api

    shown = cli("report", own_run, "--json").json
    assert shown["model_hash"] == api.report(own_run).model_hash
    write_record(own_run / "again.json", api.report(own_run))
    assert read_record(own_run / "again.json", RunReport).verdict == shown["verdict"]
