"""Markdown and HTML hold the numbers, need nothing from outside, and do not believe what they are given."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from edgeprune.report.html import render_html
from edgeprune.report.markdown import render_markdown
from edgeprune.report.plots import front_plot, latency_plot
from edgeprune.schema.budget import Budget
from edgeprune.schema.correction import Recalibration, ResidualRow
from tests.unit.report.builders import make_measurement, make_report, make_search, make_validation


def test_markdown_has_the_table_the_verdict_and_the_marks() -> None:
    text = render_markdown(make_report(make_validation(labels=("dense", "recipe"))))
    assert text.startswith("# synthetic on bench: met")
    assert "|  | dense | int8 | int4 | recipe |" in text
    assert "| disk | 120 kB | 118 kB | met |" in text
    assert re.search(r"\| per token \| 200 us \| ~\d", text)
    assert "50.0 % (40.0 % to 60.0 %)" in text
    assert "## What this does not show" in text


def test_a_name_cannot_break_the_markdown_table() -> None:
    text = render_markdown(make_report(name="a|b<script>\n# x"))
    assert text.splitlines()[0] == "# a\\|b\\<script\\> \\# x on bench: met"


def test_html_is_one_file_without_scripts_or_anything_from_outside() -> None:
    page = render_html(make_report())
    assert page.startswith("<!doctype html>")
    assert "<script" not in page
    assert not re.search(r"""(src|href)\s*=|url\(|@import|https?://""", page)
    assert "prefers-color-scheme: dark" in page
    assert page.count("<svg") == 2


def test_html_escapes_names_from_outside() -> None:
    page = render_html(make_report(name="<img onerror=x>"))
    assert "<img" not in page
    assert "&lt;img onerror=x&gt;" in page


def test_html_tells_every_form_as_text_and_marks_each_number() -> None:
    report = make_report()
    page = render_html(report)
    for block in report.blocks:
        for form in block.sites.values():
            assert form in page
    assert page.count('class="basis">measured') > 10
    assert 'class="basis">source' in page


def test_plots_are_well_formed_and_mark_the_choice_by_shape() -> None:
    result = make_search()
    picture = ElementTree.fromstring(str(front_plot(result)))
    assert [node.get("class") for node in picture.iter("polygon")] == ["chosen"]
    assert len(list(picture.iter("rect"))) == 3
    assert len(list(picture.iter("circle"))) == sum(entry.label == "front" for entry in result.front)
    numbers = [float(node.get("cy", "nan")) for node in picture.iter("circle")]
    assert all(0.0 <= number <= 340.0 for number in numbers)


def test_every_decoded_token_is_in_its_histogram() -> None:
    picture = ElementTree.fromstring(
        str(latency_plot([make_measurement("dense"), make_measurement("recipe", decode_s=1e-4)]))
    )
    counts = [
        int((node.text or "0").split()[0]) for node in picture.iter("title") if " of 64 tokens" in (node.text or "")
    ]
    assert sum(counts) == 128


def test_without_samples_there_is_no_histogram_and_without_a_choice_still_a_front() -> None:
    assert latency_plot([make_measurement("dense", decode_s=None)]) == ""
    infeasible = make_search(Budget(memory_bytes=10_000_000))
    picture = ElementTree.fromstring(str(front_plot(infeasible)))
    assert not list(picture.iter("polygon"))


@pytest.mark.parametrize("verdict", ["met", "not_met", "unmeasured"])
def test_the_verdict_is_told_in_words(verdict: str) -> None:
    report = make_report(make_validation(verdict=verdict))
    words = verdict.replace("_", " ")
    assert f": {words}" in render_markdown(report).splitlines()[0]
    assert f'class="verdict {verdict}">{words}<' in render_html(report)


def test_a_recalibration_shows_the_error_before_and_after() -> None:
    row = ResidualRow(
        label="recipe", quantity="decode", unit="s", before=0.02, measured=0.016, error_before=0.25, after=0.0164,
        error_after=0.025,
    )  # fmt: skip
    made = Recalibration(
        profile_name="board", path="board.json", measured_at="now", rows=(row,), factors=(), notes=("Busy.",)
    )
    plain, corrected = make_report(), make_report(make_validation(recalibration=made))
    for render in (render_markdown, render_html):
        assert "Recalibration" not in render(plain)
        document = render(corrected)
        assert "Recalibration of board" in document
        assert "+25.0" in document
        assert "+2.5" in document
        assert "Busy." in document
