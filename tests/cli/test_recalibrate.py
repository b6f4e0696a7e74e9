"""`validate BUNDLE --recalibrate NAME`: the error is shown before and after, and the profile is saved."""

from pathlib import Path

import platformdirs
import pytest
from msgspec.structs import replace

from edgeprune.artifacts import RunFolder, read_record, write_record
from edgeprune.pipeline.recalibrate import profile_to_correct, recalibrate_saved
from edgeprune.profile.store import load_profile
from edgeprune.schema.device import DeviceProfile
from edgeprune.schema.measurement import ValidationReport
from tests.cli.conftest import Cli
from tests.device.decoder_graph import TinyDecoder, write_bundle


@pytest.fixture(autouse=True)
def user_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platformdirs, "user_data_dir", lambda name: str(tmp_path / name))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundle") / "bundle", TinyDecoder(), question_count=4)


def test_the_error_is_shown_and_the_profile_is_saved(cli: Cli, bundle: Path) -> None:
    answer = cli("validate", bundle, "--threads", 1, "--recalibrate", "raspberry-pi-4")
    assert answer.code == 0, answer.err
    header = next(line for line in answer.out.splitlines() if line.startswith("profile raspberry-pi-4"))
    assert header.split()[2:] == ["predicted", "measured", "error", "recalibrated", "error"]
    assert "recipe decode" in answer.out
    assert "recipe memory" in answer.out
    assert "corrections: decode" in answer.out
    assert "saved as raspberry-pi-4; use it with --device raspberry-pi-4" in answer.err
    assert load_profile("raspberry-pi-4").corrections is not None


def test_json_holds_the_same_record(cli: Cli, bundle: Path) -> None:
    answer = cli("validate", bundle, "--threads", 1, "--recalibrate", "intel-n100", "--json")
    made = answer.json["recalibration"]
    assert isinstance(made, dict)
    assert made["profile_name"] == "intel-n100"
    assert {row["quantity"] for row in made["rows"]} == {"decode", "memory"}


def test_an_unknown_profile_is_refused_before_anything_is_measured(cli: Cli, bundle: Path) -> None:
    answer = cli("validate", bundle, "--recalibrate", "nowhere")
    assert answer.code == 2
    assert "Unknown device 'nowhere'" in answer.err
    assert "validate" not in answer.err.split("edgeprune:")[0]


@pytest.mark.slow
def test_a_report_shows_a_recalibration_only_beside_the_validation_it_was_made_from(cli: Cli, own_run: Path) -> None:
    folder = RunFolder(own_run)
    measured = read_record(folder.validation, ValidationReport)
    labels = {"dense", "int8", "int4"}
    bundles = {"recipe": folder.bundle} | {label: folder.baseline(label) for label in labels}
    device = profile_to_correct("mine", fallback=read_record(folder.device, DeviceProfile))
    made = recalibrate_saved(device, "mine", measured, bundles)
    assert {row.label for row in made.rows} == {*labels, "recipe"}
    write_record(folder.recalibration, made)
    assert cli("report", own_run).code in (0, 1)
    assert "## Recalibration of mine" in (own_run / "report.md").read_text()
    write_record(folder.recalibration, replace(made, measured_at="another day"))
    assert cli("report", own_run).code in (0, 1)
    assert "Recalibration" not in (own_run / "report.md").read_text()
