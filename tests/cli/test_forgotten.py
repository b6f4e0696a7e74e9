"""A run measures what was forgotten: another field, the chat format, and what left with channels and tokens."""

import json
from pathlib import Path

import pytest

from edgeprune.artifacts import read_record
from edgeprune.schema.report import RunReport
from tests.cli.conftest import Cli, Inputs
from tests.tiny import TINY_TEXT, write_tiny_llama

TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"


@pytest.mark.slow
def test_other_fields_and_the_chat_format_are_measured_and_reported(cli: Cli, inputs: Inputs, tmp_path: Path) -> None:
    model = write_tiny_llama(tmp_path / "model")
    config = json.loads((model / "tokenizer_config.json").read_text())
    (model / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": TEMPLATE}))
    finance = tmp_path / "finance.txt"
    finance.write_text(TINY_TEXT)
    answer = cli(
        "run", model, "--domain", inputs.domain, "--also", finance, "--context", "128", "--quick",
        "--evaluations", "0", "--disk", "60%", "-o", tmp_path / "out",
    )  # fmt: skip
    assert answer.code in (0, 1), answer.err
    report = read_record(tmp_path / "out" / "report.json", RunReport)
    lost = report.forgotten
    assert lost is not None
    texts = {text.name: text for text in lost.texts}
    assert list(texts) == ["domain", "general", "finance", "chat"]
    for text in lost.texts:
        assert text.dense_bits_per_byte is not None
        assert text.bits_per_byte is not None
        assert text.relative == pytest.approx(text.bits_per_byte / text.dense_bits_per_byte - 1.0)
    entries = (
        {entry.block: entry for entry in report.search.chosen.recipe.keep_channels} if report.search.chosen else {}
    )
    assert {row.block for row in lost.channels} == set(entries)
    for row in lost.channels:
        assert row.kept_contrast is not None
        assert row.dropped_count == 96 - entries[row.block].kept_count
    markdown = (tmp_path / "out" / "report.md").read_text()
    assert "## What was forgotten" in markdown
    assert "| finance |" in markdown


def test_a_missing_text_is_named_before_any_work(cli: Cli, inputs: Inputs, tmp_path: Path) -> None:
    answer = cli("run", inputs.model, "--domain", inputs.domain, "--also", tmp_path / "no.txt", "-o", tmp_path / "out")
    assert answer.code == 2
    assert "--also" in answer.err
    assert "no.txt" in answer.err
