"""`edgeprune laser MODEL --questions FILE`."""

import json
from pathlib import Path

import pytest

import edgeprune
from tests.cli.conftest import Cli, Inputs
from tests.unit.compress.laser_search.test_laser_search import questions


def write_questions(path: Path, count: int) -> Path:
    lines = [
        json.dumps({"prompt": one.prompt, "choices": list(one.choices), "answer": one.answer})
        for one in questions(count)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.slow
def test_the_chosen_truncation_is_applied_and_reported(cli: Cli, inputs: Inputs, tmp_path: Path) -> None:
    asked = write_questions(tmp_path / "questions.jsonl", 60)
    output = tmp_path / "out"
    answer = cli("laser", inputs.model, "--questions", asked, "--search", "grid", "-o", output, "--json")
    assert answer.code in (0, 1), answer.err
    found = answer.json["laser"]
    assert isinstance(found, dict)
    assert answer.code == (0 if found["sites"] else 1)
    loaded = edgeprune.load(output)
    ranks = {site.name: site.rank for block in loaded.spec.blocks for site in block.sites if site.rank is not None}
    assert ranks == dict(zip(found["sites"], found["ranks"], strict=True))


def test_too_few_questions_are_refused(cli: Cli, inputs: Inputs, tmp_path: Path) -> None:
    asked = write_questions(tmp_path / "questions.jsonl", 5)
    answer = cli("laser", inputs.model, "--questions", asked)
    assert answer.code == 2
    assert "at least 10" in answer.err


def test_a_limit_of_the_loss_needs_text(cli: Cli, inputs: Inputs, tmp_path: Path) -> None:
    asked = write_questions(tmp_path / "questions.jsonl", 20)
    answer = cli("laser", inputs.model, "--questions", asked, "--max-loss", "2%")
    assert answer.code == 2
    assert "--domain" in answer.err
