"""`edgeprune fit`: text and JSON, exit codes, names that are wrong, and no torch anywhere near."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli
from tests.device.clean import run_clean
from tests.tiny import write_tiny_llama

BOARD = ("--device", "raspberry-pi-5")


def models(answer: Any) -> list[dict[str, Any]]:
    found = answer.json["models"]
    assert isinstance(found, list)
    return found


def test_the_table_names_what_fits_first_and_says_what_speeds_rest_on(cli: Cli) -> None:
    answer = cli("fit", *BOARD, "--memory", "1.5GB")
    assert answer.code == 0, answer.err
    assert answer.out.startswith("raspberry-pi-5 (data sheet), context 512: at most 1.50 GB of memory\n")
    table, weighed = answer.out.split("EdgePrune cannot compress or export these yet")
    assert "Llama-3.2-1B" in table
    assert "SmolLM2-135M" in table
    assert "roofline" in table
    assert "  no" not in table
    assert "OLMo-1B-hf" in weighed
    assert "--all" in answer.out
    assert "never timed" in answer.err
    assert "assumed" in answer.err


def test_all_shows_what_does_not_fit(cli: Cli) -> None:
    assert "Qwen3-4B" not in cli("fit", *BOARD, "--memory", "1.5GB").out
    shown = cli("fit", *BOARD, "--memory", "1.5GB", "--all").out
    assert "Qwen3-4B" in shown
    assert "no (memory)" in shown


def test_named_models_are_shown_whether_they_fit_or_not(cli: Cli) -> None:
    answer = cli("fit", "Qwen3-4B", "gpt2", *BOARD, "--memory", "1GB")
    assert answer.code == 0
    assert "Qwen3-4B" in answer.out
    assert answer.out.index("gpt2") < answer.out.index("Qwen3-4B")


def test_json_is_one_record_with_nulls_for_what_is_unknown(cli: Cli) -> None:
    answer = cli("fit", "gpt2", "OLMo-1B-hf", *BOARD, "--json")
    assert answer.code == 0
    assert answer.json["schema_version"] == 1
    assert answer.json["verdict"] == "met"
    assert answer.json["device_basis"] == "datasheet"
    gpt2, olmo = models(answer)
    assert (gpt2["name"], gpt2["can_compress"], gpt2["license"]) == ("gpt2", True, "mit")
    assert gpt2["rows"][0]["prefill_s"]["value"] is None
    assert gpt2["rows"][0]["tokens_per_s"]["value"] > 0
    assert (olmo["name"], olmo["can_compress"]) == ("OLMo-1B-hf", False)
    assert olmo["rows"][0]["tokens_per_s"]["value"] is None
    assert olmo["rows"][0]["weights_bytes"] > 600_000_000


def test_nothing_that_fits_is_exit_1_and_says_what_the_least_is(cli: Cli) -> None:
    answer = cli("fit", *BOARD, "--memory", "70MB")
    assert answer.code == 1
    assert "Nothing is known to fit" in answer.out
    assert "pythia-70m at int4" in answer.out
    assert cli("fit", "gpt2", *BOARD, "--latency", "1us").code == 1
    assert cli("fit", "gpt2", *BOARD, "--first-token", "10s").code == 1  # unknown is not met


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["smollm-135m"], ["smollm-135m", "SmolLM2-135M"]),
        (["no-such-model-at-all"], ["no-such-model-at-all", "--all"]),
        (["gpt2", "--memory", "60%"], ["--memory", "absolute"]),
        (["gpt2", "--memory", "1.5"], ["--memory", "no unit"]),
        (["gpt2", "--memory", "0MB"], ["--memory", "more than zero"]),
        (["gpt2", "--reserve", "100GB"], ["--reserve", "leaves nothing"]),
        (["gpt2", "--precision", "int3"], ["int3", "int4"]),
        (["gpt2", "--device", "no-such-board"], ["no-such-board", "raspberry-pi-5"]),
        (["gpt2", "--context", "0"], ["--context"]),
    ],
)
def test_bad_input_is_one_sentence_and_exit_2(cli: Cli, arguments: list[str], words: list[str]) -> None:
    named = [] if "--device" in arguments else list(BOARD)
    answer = cli("fit", *arguments, *named)
    assert answer.code == 2, answer.err
    assert answer.out == ""
    last = answer.err.strip().splitlines()[-1]
    assert last.startswith("edgeprune: ")
    for word in words:
        assert word in last


def test_a_folder_that_holds_no_decoder_is_exit_3(cli: Cli, tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "bert"}))
    answer = cli("fit", folder, *BOARD)
    assert answer.code == 3
    assert "encoder" in answer.err


def test_it_runs_where_torch_is_not_installed(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "model")
    arguments = ["fit", str(folder), "gpt2", "gemma-2b", "--device", "raspberry-pi-4", "--json"]
    done = run_clean(f"import sys; from edgeprune.cli.main import run_app; sys.exit(run_app({arguments!r}))")
    assert done.returncode == 0, done.stderr[-2000:]
    assert {model["name"] for model in json.loads(done.stdout)["models"]} == {"model", "gpt2", "gemma-2b"}
