"""Every number of the report says where it comes from, and stands beside its prediction."""

import pytest
from msgspec.structs import replace

from edgeprune.report.blocks import block_rows, vocabulary_text
from edgeprune.report.compare import build_report
from edgeprune.report.markdown import render_markdown
from edgeprune.report.text import quantity_of
from edgeprune.schema.measurement import EnergyResult, TextResult
from edgeprune.schema.recipe import KeepTokens, Recipe, SiteEdit
from edgeprune.schema.report import Quantity, RunReport
from edgeprune.shapes import edit_shapes
from tests.unit.report.builders import BITS, SPEC, make_measurement, make_report, make_validation
from tests.unit.search.builders import make_device, make_scores


def entry(report: RunReport, label: str, name: str) -> Quantity:
    row = next(row for row in report.rows if row.label == label)
    found = quantity_of(row, name)
    assert found is not None
    return found


def test_the_four_models_stand_side_by_side() -> None:
    assert [row.label for row in make_report().rows] == ["dense", "int8", "int4", "recipe"]


def test_dense_on_disk_is_the_source_with_the_float32_bundle_beside_it() -> None:
    report = make_report()
    disk = entry(report, "dense", "disk_bytes")
    assert (disk.value, disk.basis) == (float(SPEC.source_bytes), "config")
    assert entry(report, "dense", "bundle_bytes").value == 200_000.0
    assert any("float32 ONNX bundle" in note and "bfloat16" in note for note in report.notes)


def test_measured_numbers_have_their_prediction_and_its_error_beside_them() -> None:
    found = entry(make_report(), "recipe", "decode_s")
    assert found.basis == "measured"
    assert found.value == 2e-4
    assert found.predicted is not None
    assert found.relative_error == pytest.approx((found.predicted - 2e-4) / 2e-4)


def test_what_was_not_measured_is_marked_estimated_or_missing_and_never_zero() -> None:
    recipe = replace(make_measurement("recipe", decode_s=None), load_time_s=None)
    validation = make_validation(measurements=(make_measurement("dense"), recipe))
    report = make_report(validation)
    unmeasured = entry(report, "recipe", "decode_s")
    assert unmeasured.basis == "estimated"
    assert unmeasured.value == unmeasured.predicted
    assert unmeasured.relative_error is None
    assert entry(report, "int8", "disk_bytes").basis == "estimated"
    assert entry(report, "recipe", "time_to_first_token_s").basis == "estimated"
    assert entry(report, "recipe", "load_time_s").value is None


def test_predicted_bits_per_byte_start_from_the_measured_dense_ones() -> None:
    report = make_report()
    assert report.search.chosen is not None
    found = entry(report, "recipe", "bits_per_byte.domain")
    assert found.predicted == pytest.approx(BITS["dense"] * (1.0 + report.search.chosen.relative_loss))


def test_general_text_and_accuracy_stand_beside_their_predictions() -> None:
    report = make_report()
    chosen = report.search.chosen
    assert chosen is not None
    told = replace(report.search, chosen=replace(chosen, general_relative_loss=0.1, accuracy=0.55))
    texts = {
        label: tuple(
            TextResult(name=name, bits_per_byte=bits, loss_nats=2.0, scored_token_count=10, scored_bytes=30)
            for name, bits in (("domain", 1.0), ("general", general))
        )
        for label, general in (("dense", 2.0), ("recipe", 2.3))
    }
    measured = tuple(replace(make_measurement(label), texts=found) for label, found in texts.items())
    other = build_report(
        told,
        make_validation(measurements=measured),
        dense_spec=SPEC,
        edited_spec=edit_shapes(SPEC, chosen.recipe),
        scores=make_scores(SPEC)[0],
        device=make_device(),
        versions={},
        created_at="",
    )
    general = entry(other, "recipe", "bits_per_byte.general")
    assert general.value == 2.3
    assert general.predicted == pytest.approx(2.2)
    assert entry(other, "recipe", "accuracy.exam").predicted == 0.55


def test_accuracy_keeps_its_interval() -> None:
    found = entry(make_report(), "recipe", "accuracy.exam")
    assert (found.low, found.high) == (0.4, 0.6)
    assert any("96 questions" in limit for limit in make_report().limits)


def test_a_recipe_edited_by_hand_has_no_predictions_beside_it() -> None:
    report = make_report()
    edited = edit_shapes(SPEC, Recipe(model_hash=SPEC.model_hash, context_tokens=64, drop_blocks=(0,)))
    other = build_report(
        report.search,
        make_validation(),
        dense_spec=SPEC,
        edited_spec=edited,
        scores=make_scores(SPEC)[0],
        device=make_device(),
        versions={},
        created_at="2026-01-01T00:00:00+00:00",
    )
    assert entry(other, "recipe", "decode_s").predicted is None
    assert any("not the one the search chose" in note for note in other.notes)


def test_block_rows_say_what_was_removed() -> None:
    recipe = Recipe(
        model_hash=SPEC.model_hash,
        context_tokens=64,
        drop_blocks=(1,),
        keep_tokens=KeepTokens(kept_count=300),
        table_kernel="int8_b32_a4",
        sites=(SiteEdit(name="blocks.0.q", kernel="int4_b32_a4", rank=16),),
    )
    edited = edit_shapes(SPEC, recipe)
    rows = block_rows(SPEC, edited)
    assert [row.is_dropped for row in rows] == [False, True, False]
    assert rows[0].sites["q"] == "rank 16 int4_b32_a4"
    assert rows[0].sites["k"] == "dense fp32"
    assert rows[0].channels == "176 of 176"
    dense_count = 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 176 + 128
    assert rows[0].kept_fraction == pytest.approx(1 - (64 * 64 - 16 * 128) / dense_count)
    assert (rows[2].kept_fraction, rows[2].bytes_kept_fraction) == (1.0, 1.0)
    assert vocabulary_text(SPEC, edited) == "300 of 512 tokens, tables int8_b32_a4"


def test_energy_is_a_column_where_a_meter_was_read_and_absent_elsewhere() -> None:
    energy = EnergyResult(token_j=0.0421, token_count=640, meters=("package-0",))
    measured = [make_measurement("dense"), replace(make_measurement("recipe"), energy=energy)]
    report = make_report(make_validation(measurements=tuple(measured)))
    text = render_markdown(report)
    assert "energy per token" in text
    assert "42.1 mJ" in text
    assert "energy per token" not in render_markdown(make_report())
