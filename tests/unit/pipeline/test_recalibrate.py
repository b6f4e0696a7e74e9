"""A validated bundle corrects the profile it was predicted with, and the next prediction is nearer."""

import json
from pathlib import Path

import platformdirs
import pytest
from msgspec.structs import replace

from edgeprune import api
from edgeprune.errors import UsageError
from edgeprune.pipeline.recalibrate import profile_to_correct, recalibrate_profile, recalibrate_saved
from edgeprune.predict.cost import CostModel
from edgeprune.profile.store import load_profile, save_profile
from edgeprune.schema.device import Conditions
from edgeprune.schema.measurement import ValidationReport
from edgeprune.validate.bundle import read_manifest
from tests.device.decoder_graph import TinyDecoder, write_bundle
from tests.unit.search.builders import make_device

SHEET = "raspberry-pi-5"


@pytest.fixture(autouse=True)
def user_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(platformdirs, "user_data_dir", lambda name: str(tmp_path / name))
    return tmp_path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundle") / "bundle", TinyDecoder(), question_count=4)


@pytest.fixture(scope="module")
def measured(bundle: Path) -> ValidationReport:
    """One real validation on this device."""
    return api.validate(bundle, thread_count=1)


def test_the_first_measurement_brings_a_data_sheet_close(bundle: Path, measured: ValidationReport) -> None:
    made = recalibrate_saved(profile_to_correct(SHEET), SHEET, measured, {"recipe": bundle})
    entry = measured.measurements[0]
    rows = {row.quantity: row for row in made.rows}
    assert rows["decode"].measured == entry.decode_s
    assert rows["memory"].measured == entry.model_memory_bytes
    # The correction is bounded at a factor of twenty; within it, what was predicted moves nearly all the way.
    for row in made.rows:
        assert abs(row.error_after) < max(0.25, 0.5 * abs(row.error_before))
    saved = load_profile(SHEET)
    assert saved.corrections is not None
    assert saved.basis == "datasheet"
    assert saved.floor is not None
    assert saved.floor.peak_rss_bytes == entry.floor_bytes
    manifest = read_manifest(bundle)
    cost = CostModel(saved, manifest.spec, manifest.workload).edited_cost(manifest.spec)
    assert cost.decode_s.value == rows["decode"].after
    assert cost.decode_s.basis == cost.model_memory_bytes.basis == "corrected"


def test_measuring_a_bundle_again_replaces_its_residuals(bundle: Path, measured: ValidationReport) -> None:
    first = recalibrate_saved(profile_to_correct(SHEET), SHEET, measured, {"recipe": bundle})
    second = recalibrate_saved(profile_to_correct(SHEET), SHEET, measured, {"recipe": bundle})
    assert second.factors == first.factors
    corrections = load_profile(SHEET).corrections
    assert corrections is not None
    assert len(corrections.residuals) == len(first.rows)


def test_residuals_are_of_the_uncorrected_profile(bundle: Path, measured: ValidationReport) -> None:
    manifests = {"recipe": read_manifest(bundle)}
    once, _ = recalibrate_profile(load_profile(SHEET), measured, manifests)
    twice, rows = recalibrate_profile(once, measured, manifests)
    assert once.corrections is not None
    assert twice.corrections is not None
    assert twice.corrections.residuals == once.corrections.residuals
    assert all(row.before == row.after for row in rows)


def test_another_number_of_threads_than_the_profile_is_refused(bundle: Path, measured: ValidationReport) -> None:
    profile = replace(make_device(), thread_count=4)
    with pytest.raises(UsageError, match="--threads 4"):
        recalibrate_profile(profile, measured, {"recipe": read_manifest(bundle)})


def test_a_validation_that_measured_nothing_is_refused(bundle: Path, measured: ValidationReport) -> None:
    failed = replace(measured.measurements[0], decode_s=None, prefill=None, model_memory_bytes=None)
    with pytest.raises(UsageError, match="Nothing was measured"):
        recalibrate_profile(
            load_profile(SHEET), replace(measured, measurements=(failed,)), {"recipe": read_manifest(bundle)}
        )


def test_a_profile_nobody_knows_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="Unknown device 'nowhere'"):
        profile_to_correct("nowhere")
    with pytest.raises(UsageError, match="not a device name"):
        profile_to_correct("../up", fallback=make_device())


def test_the_profile_of_a_run_is_taken_where_the_name_is_new() -> None:
    assert profile_to_correct("mine", fallback=make_device()) == make_device()
    assert profile_to_correct(SHEET, fallback=make_device()).name == SHEET


def test_a_saved_profile_without_corrections_still_reads() -> None:
    path = save_profile(make_device(), "older")
    fields = json.loads(path.read_text())
    del fields["corrections"]
    path.write_text(json.dumps(fields))
    assert load_profile("older").corrections is None


def test_a_busy_machine_is_told_beside_its_corrections(bundle: Path, measured: ValidationReport) -> None:
    calm = Conditions(governor=None, temperature_c=None, is_throttled=False, load_1min=0.0)
    busy = replace(calm, load_1min=500.0)
    notes = [
        recalibrate_saved(
            profile_to_correct(SHEET),
            SHEET,
            replace(measured, conditions_before=before, conditions_after=calm),
            {"recipe": bundle},
        ).notes
        for before in (calm, busy)
    ]
    assert notes[0] == ()
    assert "load 500" in notes[1][0]
