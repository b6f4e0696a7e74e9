"""`--last-logits` from the command line: bundles whose prompts end in one row of logits, measured as others are."""

from pathlib import Path

import onnx
import pytest

from tests.cli.conftest import Cli

pytestmark = pytest.mark.slow


def _rows(bundle: Path) -> object:
    (logits,) = [
        output
        for output in onnx.load(bundle / "model.onnx", load_external_data=False).graph.output
        if output.name == "logits"
    ]
    position = logits.type.tensor_type.shape.dim[1]
    return position.dim_value or position.dim_param


def test_a_run_is_exported_anew_with_the_last_logits_alone(cli: Cli, own_run: Path) -> None:
    folders = [own_run / "bundle", own_run / "baselines" / "int4"]
    assert [_rows(folder) for folder in folders] == ["sequence_length"] * 2
    prompt = ("generate", own_run / "bundle", "--prompt", "the court", "--max-tokens", "8")
    before = cli(*prompt)
    assert before.code == 0, before.err
    answer = cli("export", own_run, "--last-logits")
    assert answer.code == 0, answer.err
    assert [_rows(folder) for folder in folders] == [1, 1]
    assert cli(*prompt).out == before.out
    measured = cli("validate", own_run / "bundle", "--json")
    assert measured.code in (0, 1), measured.err
    (row,) = measured.json["measurements"]  # type: ignore[misc]
    assert row["texts"][0]["loss_nats"] > 0  # type: ignore[index]


def test_with_a_recipe_of_its_own_it_is_refused(cli: Cli, tmp_path: Path) -> None:
    answer = cli("export", tmp_path, "--recipe", tmp_path / "recipe.toml", "--last-logits", "-o", tmp_path / "new")
    assert answer.code == 2
    assert "--last-logits" in answer.err
