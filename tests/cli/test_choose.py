"""`edgeprune choose`: headers answer first, models are ranked alike, the same command resumes."""

import json
from pathlib import Path
from typing import Any

import pytest

from edgeprune.artifacts import read_record
from edgeprune.schema.candidate import SearchResult
from edgeprune.schema.choice import ChoiceReport
from edgeprune.schema.scores import Scores
from edgeprune.search.quantities import predicted_verdict
from tests.cli.conftest import Cli, Inputs, write_domain
from tests.device.clean import run_clean
from tests.tiny import write_tiny_llama

SHEET = "raspberry-pi-5"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three sizes of the same random family."""
    root = tmp_path_factory.mktemp("models")
    narrow: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    }
    return [
        write_tiny_llama(root / "small", seed=1, num_hidden_layers=2, **narrow),
        write_tiny_llama(root / "middle", seed=2),
        write_tiny_llama(root / "large", seed=3, hidden_size=96, intermediate_size=192, num_hidden_layers=4),
    ]


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_domain(tmp_path_factory.mktemp("texts") / "domain.jsonl")


def unknown_family(folder: Path, source: Path) -> Path:
    """A model whose family nobody knows."""
    folder.mkdir()
    config = json.loads((source / "config.json").read_text())
    config |= {"model_type": "neverheard", "architectures": ["NeverHeardForCausalLM"]}
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("model.safetensors", "tokenizer.json"):
        (folder / name).write_bytes((source / name).read_bytes())
    return folder


def test_headers_alone_answer_that_nothing_fits(cli: Cli, models: list[Path], domain: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    answer = cli("choose", *models, "--domain", domain, "--device", SHEET, "--memory", "61MB", "-o", output, "--json")
    assert answer.code == 1
    statuses = answer.json["models"]
    assert isinstance(statuses, list)
    assert [entry["status"] for entry in statuses] == ["cannot_fit"] * 3
    assert all("not even the smallest recipe meets memory" in entry["reason"] for entry in statuses)
    assert sorted(item.name for item in output.iterdir()) == ["choice-request.json", "choice.json"]


def test_headers_need_no_torch(models: list[Path], domain: Path, tmp_path: Path) -> None:
    arguments = [
        "choose", *models, "--domain", domain, "--device", SHEET, "--disk", "20KB", "-o", tmp_path / "out",
    ]  # fmt: skip
    result = run_clean(
        f"import sys\nfrom edgeprune.cli.main import run_app\nsys.exit(run_app({[str(item) for item in arguments]!r}))"
    )
    assert result.returncode == 1, result.stderr
    assert "not even the smallest recipe meets disk" in result.stdout


def test_candidates_of_unknown_families_alone_are_refused(
    cli: Cli, models: list[Path], domain: Path, tmp_path: Path
) -> None:
    strange = unknown_family(tmp_path / "strange", models[0])
    answer = cli("choose", strange, "--domain", domain, "--device", SHEET, "--disk", "20KB", "-o", tmp_path / "a")
    assert answer.code == 3
    assert "None of the 1 candidates is supported" in answer.err
    answer = cli(
        "choose", strange, models[0], "--domain", domain, "--device", SHEET, "--disk", "20KB", "-o", tmp_path / "b",
        "--json",
    )  # fmt: skip
    assert answer.code == 1
    statuses = answer.json["models"]
    assert isinstance(statuses, list)
    assert [entry["status"] for entry in statuses] == ["unsupported", "cannot_fit"]


def test_bad_input_is_refused_before_anything_is_measured(
    cli: Cli, models: list[Path], domain: Path, tmp_path: Path
) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "letter.txt").write_text("mine")
    common = ["--domain", domain, "--device", SHEET]
    cases = {
        "means something else for every model": [models[0], *common, "--memory", "60%", "-o", tmp_path / "a"],
        "given twice": [models[0], models[0], *common, "-o", tmp_path / "b"],
        "No domain text": [models[0], "--device", SHEET, "-o", tmp_path / "c"],
        "holds no choice of EdgePrune": [models[0], *common, "-o", full],
        "Unknown device": [models[0], "--domain", domain, "--device", "nowhere", "-o", tmp_path / "d"],
        "longer than the 256 positions": [*models[:2], *common, "--context", 300, "-o", tmp_path / "e"],
    }
    for message, arguments in cases.items():
        answer = cli("choose", *arguments)
        assert (answer.code, answer.out) == (2, ""), answer.err
        assert message in answer.err
    assert [item.name for item in full.iterdir()] == ["letter.txt"]


@pytest.mark.slow
def test_three_models_agree_with_brute_force_over_their_fronts_and_the_best_is_measured(
    cli: Cli, inputs: Inputs, models: list[Path], domain: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    arguments = [
        "choose", *models, "--domain", domain, "--questions", inputs.questions, "--context", 128, "--quick",
        "--threads", 1, "--disk", "150KB", "--evaluations", 0, "-o", output,
    ]  # fmt: skip
    answer = cli(*arguments, "--measure", 0, "--json")
    assert answer.code == 0, answer.err
    predicted = read_record(output / "choice.json", ChoiceReport)
    assert [entry.status for entry in predicted.models] == ["searched"] * 3
    assert predicted.recovery == "none"
    best: dict[str, float] = {}
    for status in predicted.models:
        assert status.folder is not None
        result = read_record(Path(status.folder) / "front.json", SearchResult)
        scores = read_record(Path(status.folder) / "scores.json", Scores)
        bits = next(entry.bits_per_byte for entry in scores.dense_losses if entry.text == "domain.selection")
        candidates = [*result.front, *result.baselines, result.dense, *([result.chosen] if result.chosen else [])]
        fitting = [entry for entry in candidates if predicted_verdict(entry, result.budget) == "met"]
        if fitting:
            best[status.name] = min(bits * (1.0 + entry.relative_loss) for entry in fitting)
    (choice,) = predicted.devices
    assert [row.model for row in choice.ranking] == sorted(best, key=lambda name: best[name])
    assert choice.winner is not None
    assert choice.winner.bits_per_byte == pytest.approx(min(best.values()))

    answer = cli(*arguments, "--measure", 1)
    assert answer.code == 0, answer.err
    assert answer.err.count("calibrate: finished before") >= 3  # nothing is calibrated again
    (choice,) = read_record(output / "choice.json", ChoiceReport).devices
    measured = [row for row in choice.rows if row.quality_basis == "measured"]
    assert {row.model for row in measured} == {predicted.devices[0].ranking[0].model}
    assert {"int8", "int4", "dense"} <= {row.label for row in measured}
    for row in measured:
        assert row.accuracy is not None
        assert row.measured_disk_bytes is not None
        assert (row.measured_disk_bytes <= 150_000) == (row.fits == "met")
    assert "verdict: met" in answer.out


@pytest.mark.slow
def test_other_devices_get_ranges_and_the_same_quality(
    cli: Cli, models: list[Path], domain: Path, tmp_path: Path
) -> None:
    answer = cli(
        "choose", *models[:2], "--domain", domain, "--context", 128, "--device", SHEET, "--device", "intel-n100",
        "--disk", "150KB", "--measure", 0, "-o", tmp_path / "out", "--json",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    report = read_record(tmp_path / "out" / "choice.json", ChoiceReport)
    assert [choice.device_name for choice in report.devices] == [SHEET, "intel-n100"]
    for choice in report.devices:
        assert choice.winner is not None
        cost = choice.winner.cost
        assert cost.decode_s.low is not None
        assert cost.decode_s.value is not None
        assert cost.decode_s.low < cost.decode_s.value
        assert choice.winner.quality_basis == "estimated"
