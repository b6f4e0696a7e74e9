"""What the report says was forgotten: losses by text, contrast of channels, tokens; null where nothing was measured."""

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from edgeprune.report.compare import build_report
from edgeprune.report.forgotten import forgotten
from edgeprune.report.html import render_html
from edgeprune.report.markdown import render_markdown
from edgeprune.schema.measurement import BundleMeasurement, TextResult, ValidationReport
from edgeprune.schema.recipe import KeepChannels, KeepTokens, Recipe
from edgeprune.schema.report import RunReport
from edgeprune.schema.scores import ScoreArrays, Scores, VocabularyOption
from edgeprune.shapes import edit_shapes
from tests.unit.report.builders import SPEC, make_measurement, make_report, make_search, make_validation
from tests.unit.search.builders import make_device, make_scores

RECIPE = Recipe(
    model_hash=SPEC.model_hash,
    context_tokens=64,
    keep_tokens=KeepTokens(kept_count=256),
    keep_channels=(KeepChannels(block=0, kept_count=2), KeepChannels(block=2, kept_count=3)),
)
ARRAYS: ScoreArrays = {"channel_contrast/0": np.array([4.0, 2.0, 0.5, 0.25, 3.0])}


def _text(name: str, bits: float, tokens: int) -> TextResult:
    return TextResult(name=name, bits_per_byte=bits, loss_nats=3.0, scored_token_count=tokens, scored_bytes=3600)


def _measured(label: str, *texts: TextResult) -> BundleMeasurement:
    return replace(make_measurement(label), texts=texts)


def _validation() -> ValidationReport:
    return make_validation(
        measurements=(
            _measured("dense", _text("domain", 1.0, 900), _text("general", 2.0, 800), _text("chat", 1.5, 500)),
            _measured("recipe", _text("domain", 1.02, 900), _text("general", 3.0, 1000)),
        )
    )


def _scores() -> Scores:
    scores, _ = make_scores(SPEC)
    option = VocabularyOption(
        kept_count=256,
        loss_increase_nats=0.0,
        token_inflation=1.0,
        coverage=0.999,
        general_coverage=0.8,
        general_token_inflation=1.3,
    )
    return replace(scores, vocabulary=(option,))


def test_every_text_stands_beside_the_dense_model_and_what_is_missing_is_none() -> None:
    found = forgotten(_validation(), SPEC, RECIPE, _scores(), ARRAYS)
    texts = {text.name: text for text in found.texts}
    assert list(texts) == ["domain", "general", "chat"]
    assert texts["domain"].relative == pytest.approx(0.02)
    assert texts["general"].relative == pytest.approx(0.5)
    assert texts["general"].token_inflation == pytest.approx(1.25)
    assert (texts["chat"].dense_bits_per_byte, texts["chat"].bits_per_byte) == (1.5, None)
    assert (texts["chat"].relative, texts["chat"].token_inflation) == (None, None)


def test_contrast_is_split_where_the_recipe_cuts() -> None:
    found = forgotten(_validation(), SPEC, RECIPE, _scores(), ARRAYS)
    first, last = found.channels
    assert (first.block, first.kept_count, first.dropped_count) == (0, 2, 3)
    assert first.kept_contrast == pytest.approx(3.0)
    assert first.dropped_contrast == pytest.approx(0.5)
    assert first.general_count == 2
    assert (last.dropped_count, last.kept_contrast, last.general_count) == (None, None, None)


def test_tokens_come_from_the_scored_vocabulary_or_stay_unknown() -> None:
    found = forgotten(_validation(), SPEC, RECIPE, _scores(), ARRAYS)
    assert found.dropped_token_count == SPEC.vocab_size - 256
    assert (found.coverage, found.general_coverage, found.general_token_inflation) == (0.999, 0.8, 1.3)
    other = replace(RECIPE, keep_tokens=KeepTokens(kept_count=300))
    found = forgotten(_validation(), SPEC, other, _scores(), ARRAYS)
    assert (found.coverage, found.general_coverage, found.general_token_inflation) == (None, None, None)
    assert forgotten(_validation(), SPEC, replace(RECIPE, keep_tokens=None), _scores(), {}).dropped_token_count == 0


def _report() -> RunReport:
    return build_report(
        make_search(),
        _validation(),
        dense_spec=SPEC,
        edited_spec=edit_shapes(SPEC, RECIPE),
        scores=_scores(),
        device=make_device(),
        versions={},
        created_at="2026-01-01T00:00:00+00:00",
        recipe=RECIPE,
        arrays=ARRAYS,
    )


def test_both_forms_show_it_and_a_report_without_it_shows_nothing() -> None:
    report = _report()
    markdown, html = render_markdown(report), render_html(report)
    for text in (markdown, html):
        assert "What was forgotten" in text
        assert "+50.0" in text
        assert "80.0 %" in text
        assert "1.300 times as many tokens" in text
        assert "n/a" in text
    assert "| general | 2.0000 | 3.0000 | +50.0% | 1.250 |" in markdown
    assert "| 0 | 2 | 3 | 3 | 0.5 | 2 |" in markdown
    for text in (render_markdown(make_report()), render_html(make_report())):
        assert "What was forgotten" not in text


def test_the_record_survives_json_and_older_reports_are_read() -> None:
    report = _report()
    encoded = msgspec.json.encode(report)
    assert msgspec.json.decode(encoded, type=RunReport) == report
    raw = msgspec.json.decode(encoded)
    del raw["forgotten"]
    assert msgspec.convert(raw, type=RunReport).forgotten is None
