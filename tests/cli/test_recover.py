"""`--recover-minutes`: planned in steps, written into the recipe, trained, and refused where it makes no sense."""

from pathlib import Path

import pytest

import edgeprune
from edgeprune.artifacts import RunFolder, read_record
from edgeprune.schema.recovery import RecoveryPlans
from tests.cli.conftest import Cli, Inputs


@pytest.mark.parametrize("minutes", ["0", "-1", "inf", "nan"])
@pytest.mark.parametrize("verb", ["run", "compress"])
def test_minutes_must_be_a_time(cli: Cli, inputs: Inputs, tmp_path: Path, verb: str, minutes: str) -> None:
    answer = cli(verb, inputs.model, "--domain", inputs.domain, "--recover-minutes", minutes, "-o", tmp_path / "out")
    assert answer.code == 2
    assert "--recover-minutes" in answer.err
    assert not (tmp_path / "out").exists()


def test_a_mode_needs_minutes(cli: Cli, inputs: Inputs) -> None:
    answer = cli("run", inputs.model, "--domain", inputs.domain, "--recover-mode", "lora")
    assert answer.code == 2
    assert "--recover-minutes" in answer.err


def test_an_unknown_mode_names_those_there_are(cli: Cli, inputs: Inputs) -> None:
    answer = cli("run", inputs.model, "--domain", inputs.domain, "--recover-minutes", "1", "--recover-mode", "magic")
    assert answer.code == 2
    assert "blockwise" in answer.err


def test_a_recipe_runs_as_written(cli: Cli, inputs: Inputs, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("")
    answer = cli(
        "run", inputs.model, "--domain", inputs.domain, "--recover-minutes", "1", "--recipe", recipe,
        "-o", tmp_path / "out",
    )  # fmt: skip
    assert answer.code == 2
    assert "--recipe" in answer.err


@pytest.mark.slow
def test_one_technique_then_training(cli: Cli, inputs: Inputs, tmp_path: Path) -> None:
    output = tmp_path / "out"
    answer = cli(
        "compress", inputs.model, "--technique", "lowrank", "--kept", "0.8", "--domain", inputs.domain,
        "--context", "128", "--recover-minutes", "0.5", "--recover-mode", "distill", "-o", output, "--json",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    recipe = answer.json["recipe"]
    assert isinstance(recipe, dict)
    assert recipe["recovery"]["mode"] == "distill"
    assert recipe["recovery"]["steps"] >= 1
    assert "on selection text" in answer.err or "was kept" in answer.err
    stored = sum(parameter.numel() for parameter in edgeprune.load(output).model.parameters())
    dense = sum(parameter.numel() for parameter in edgeprune.load(inputs.model).model.parameters())
    assert stored / dense == pytest.approx(answer.json["kept_fraction"])


@pytest.mark.slow
def test_a_runs_recipe_is_recovered_and_says_so(cli: Cli, own_run: Path) -> None:
    before = (own_run / "recipe.toml").read_text()
    answer = cli("compress", own_run, "--recover-minutes", "0.5", "--json")
    assert answer.code == 0, answer.err
    recipe = answer.json["recipe"]
    assert isinstance(recipe, dict)
    planned = list(read_record(RunFolder(own_run).recovery_plans, RecoveryPlans).plans.values())
    assert [plan.steps for plan in planned] == [recipe["recovery"]["steps"]]
    after = (own_run / "recipe.toml").read_text()
    assert f"steps = {planned[0].steps}" in after
    assert [line for line in after.splitlines() if not line.startswith("recovery =")] == before.splitlines()
    assert not RunFolder(own_run).trainings.exists()
    # The same request plans nothing anew: what the machine does now does not matter.
    again = cli("compress", own_run, "--recover-minutes", "0.5", "--json")
    assert again.json["recipe"] == recipe
