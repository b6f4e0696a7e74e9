"""`plan` prices models of the catalogue by name, as it prices folders, and downloads neither."""

from pathlib import Path

import pytest

from edgeprune.errors import UnsupportedArchitectureError
from edgeprune.intake.catalogue import describe_entry, find_entry
from edgeprune.pipeline.plan import plan_models
from edgeprune.profile.store import load_profile
from edgeprune.schema.budget import BudgetRequest
from tests.tiny import write_tiny_llama


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_a_name_of_the_catalogue_is_priced_beside_a_folder(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "model")
    report = plan_models(
        ["SmolLM2-135M-Instruct", str(folder)], load_profile("raspberry-pi-5"), request=BudgetRequest()
    )
    names = [row.model for row in report.rows]
    assert names == ["SmolLM2-135M-Instruct"] * 3 + [str(folder)] * 3
    assert report.rows[0].parameter_count == describe_entry(find_entry("SmolLM2-135M")).parameter_count
    assert report.rows[0].cost.weights_bytes > 4 * 134_000_000


def test_a_folder_comes_before_a_name_of_the_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tiny_llama(tmp_path / "gpt2")
    monkeypatch.chdir(tmp_path)
    report = plan_models(["gpt2"], load_profile("raspberry-pi-5"), request=BudgetRequest())
    assert report.rows[0].parameter_count < 1_000_000


def test_a_model_that_no_family_reads_is_refused_with_the_reason() -> None:
    with pytest.raises(UnsupportedArchitectureError, match="'olmo'"):
        plan_models(["OLMo-1B-hf"], load_profile("raspberry-pi-5"), request=BudgetRequest())
