"""`validate BUNDLE --recalibrate NAME`: the error is shown before and after, and the profile is saved."""

from pathlib import Path

import platformdirs
import pytest

from edgeprune.profile.store import load_profile
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
