"""Limits and objectives on the command line, solved again on a finished run."""

from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli
from tests.cli.scored_run import write_scored_run


def test_search_tells_the_gap_and_how_much_of_each_limit_is_used(cli: Cli, tmp_path: Path) -> None:
    run = write_scored_run(tmp_path / "run")
    answer = cli(
        "search", run, "--max-loss", "20%", "--first-token", "10s", "--objective", "latency", "--evaluations", "0"
    )
    assert answer.code == 0
    assert "optimality gap 0.0" in answer.out
    assert "first token: at most " in answer.out
    assert "loss: at most " in answer.out
    assert "% of the limit)" in answer.out


def test_objectives_lead_to_recipes_that_differ_as_asked(cli: Cli, own_run: Path) -> None:
    found: dict[str, Any] = {}
    for objective in ("memory", "latency", "request"):
        answer = cli("search", own_run, "--max-loss", "20%", "--objective", objective, "--json")
        assert answer.code == 0
        found[objective] = answer.json["chosen"]
        # Whatever this machine's kernels take: the answer is proved, but for what the record names.
        assert found[objective]["optimality_gap"] is None or found[objective]["optimality_gap"] <= 1e-3
        assert answer.json["budget"]["objective"] == objective  # type: ignore[index, call-overload]
    memory = {name: entry["cost"]["peak_rss_bytes"]["high"] for name, entry in found.items()}
    latency = {name: entry["cost"]["decode_s"]["high"] for name, entry in found.items()}
    assert memory["memory"] <= memory["latency"]
    assert latency["latency"] <= latency["memory"]
    assert all(entry["relative_loss"] <= 0.2 for entry in found.values())


def test_a_workload_is_its_prompt_and_what_is_generated_after_it(cli: Cli, own_run: Path) -> None:
    found: dict[str, Any] = {}
    for mix in ("120+8", "8+120"):
        answer = cli("search", own_run, "--workload", mix, "--max-loss", "20%", "--objective", "request", "--json")
        assert answer.code == 0
        assert answer.json["context_tokens"] == 128
        found[mix] = answer.json["chosen"]["cost"]  # type: ignore[index, call-overload]
        parts = found[mix]["prefill_s"]["value"] + int(mix.split("+")[1]) * found[mix]["decode_s"]["value"]
        assert found[mix]["request_s"]["value"] == pytest.approx(parts)
    assert found["120+8"]["prefill_s"]["value"] > found["8+120"]["prefill_s"]["value"]


def test_general_loss_is_predicted_and_held(cli: Cli, own_run: Path) -> None:
    answer = cli("search", own_run, "--disk", "60%", "--max-general-loss", "30%", "--json")
    assert answer.code == 0
    chosen: Any = answer.json["chosen"]
    assert chosen["general_relative_loss"] <= 0.3
    assert answer.json["predicted"] == "met"


def test_an_accuracy_that_nothing_predicts_is_left_to_the_measurement_and_says_so(cli: Cli, own_run: Path) -> None:
    answer = cli("search", own_run, "--disk", "60%", "--min-accuracy", "5%")
    assert answer.code == 0
    assert "accuracy: limit 5.0 %, not predicted" in answer.out
    assert "note: accuracy cannot be predicted before recipes were built" in answer.out


def test_an_infeasible_budget_offers_concessions_one_a_line(cli: Cli, own_run: Path) -> None:
    answer = cli("search", own_run, "--disk", "8%", "--max-loss", "0.1%", "--json")
    assert answer.code == 1
    infeasible: Any = answer.json["infeasible"]
    assert infeasible["concessions"]
    lines = [line.strip() for line in answer.err.splitlines()]
    assert all(concession["message"] in lines for concession in infeasible["concessions"])


@pytest.mark.parametrize("flags", [["--objective", "latency"], ["--device-memory", "2GB"]])
def test_search_refuses_what_can_never_be_met(cli: Cli, own_run: Path, flags: list[str]) -> None:
    answer = cli("search", own_run, *flags)
    assert answer.code == 2
    assert flags[0] in answer.err
