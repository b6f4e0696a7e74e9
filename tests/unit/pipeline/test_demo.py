import json
import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace

from edgeprune.artifacts import write_record
from edgeprune.demo.paths import demo_device_path
from edgeprune.errors import ModelError, UsageError
from edgeprune.pipeline import demo
from edgeprune.pipeline.demo import NOTICE, read_demo, run_demo
from edgeprune.profile.store import load_profile
from edgeprune.schema.budget import BudgetRequest, Limit
from edgeprune.schema.demo import DemoReport
from edgeprune.schema.events import Event, NullProgress

BOARD = "raspberry-pi-5"


def solved(
    *, device: str = BOARD, budget: BudgetRequest | None = None, context: int | None = None, validates: bool = False
) -> DemoReport:
    return run_demo(
        device=device, budget=budget, context=context, validates=validates, thread_count=None, progress=NullProgress()
    )


@pytest.fixture(scope="module")
def default_report() -> DemoReport:
    return solved()


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo_device_path(), tmp_path / "device"))


@pytest.mark.parametrize("name", ["scores.npz", "model.json", "int4/model.onnx", "int4/edgeprune.json"])
def test_a_changed_file_is_refused_by_name(copied: Path, name: str) -> None:
    data = bytearray((copied / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copied / name).write_bytes(data)
    with pytest.raises(ModelError, match=name):
        read_demo(copied)


def test_a_missing_file_is_refused_by_name(copied: Path) -> None:
    (copied / "scores.json").unlink()
    with pytest.raises(ModelError, match=r"scores\.json"):
        read_demo(copied)


def test_a_manifest_that_leaves_its_folder_is_refused(copied: Path) -> None:
    manifest = json.loads((copied / "demo.json").read_text(encoding="utf-8"))
    manifest["files"][0]["path"] = "../outside"
    (copied / "demo.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(ModelError, match="leaves that folder"):
        read_demo(copied)


def test_missing_device_data_is_an_error_of_the_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"demo\.json"):
        read_demo(tmp_path)


def test_without_limits_only_the_default_budget_is_solved(default_report: DemoReport) -> None:
    report = default_report
    assert report.default is not None
    assert report.default.budget.origin == "default"
    assert report.asked is None
    assert report.verdict == report.default.predicted == "met"
    assert report.notice == NOTICE
    assert "no claim of quality" in report.notice


def test_a_tighter_disk_limit_gives_a_smaller_recipe_that_loses_more() -> None:
    wide, tight = (solved(budget=BudgetRequest(disk=Limit(absolute=size))).asked for size in (3_500_000.0, 2_000_000.0))
    assert wide is not None
    assert wide.chosen is not None
    assert tight is not None
    assert tight.chosen is not None
    assert tight.chosen.cost.disk_bytes <= 2_000_000 < wide.chosen.cost.disk_bytes <= 3_500_000
    assert tight.chosen.loss_increase_nats > wide.chosen.loss_increase_nats


def test_moving_the_budget_alone_solves_once() -> None:
    report = solved(budget=BudgetRequest(disk=Limit(absolute=3e6)))
    assert report.default is None
    assert set(report.took_s) == {"profile", "solve", "total"}


def test_a_budget_nothing_meets_is_not_met_and_says_what_binds() -> None:
    report = solved(budget=BudgetRequest(disk=Limit(absolute=1000.0)))
    assert report.verdict == "not_met"
    assert report.asked is not None
    assert report.asked.chosen is None
    assert report.asked.infeasible is not None
    assert "disk" in report.asked.infeasible.binding


def test_the_context_is_the_one_asked_for_and_the_bundle_keeps_its_own(default_report: DemoReport) -> None:
    short, whole = solved(context=128), default_report
    assert short.context_tokens == 128
    assert whole.context_tokens == read_demo(demo_device_path()).manifest.context_tokens
    assert short.figures == whole.figures
    with pytest.raises(UsageError, match="longer than the model's"):
        solved(context=100_000)


def test_figures_are_predictions_until_something_is_measured(default_report: DemoReport) -> None:
    figures = {figure.name: figure for figure in default_report.figures}
    assert all(figure.measured is None and figure.relative_error is None for figure in figures.values())
    assert {name for name, figure in figures.items() if figure.predicted is not None} >= {
        "disk_bytes", "model_memory_bytes", "decode_s", "bits_per_byte.domain",
    }  # fmt: skip
    # A data sheet knows no floor, so nobody can tell a whole process's peak.
    assert figures["peak_rss_bytes"].predicted is None
    assert figures["accuracy.frequent"].predicted is None
    assert figures["accuracy.frequent"].dense == read_demo(demo_device_path()).manifest.dense_accuracy["frequent"]


def test_a_data_sheet_is_not_held_against_this_machine() -> None:
    report = solved(validates=True)
    assert report.validation is None
    assert "data sheet" in report.notes[0]


def test_another_machines_profile_is_not_held_against_this_one(tmp_path: Path) -> None:
    board = load_profile(BOARD)
    path = tmp_path / "other.json"
    write_record(path, replace(board, basis="measured", cpu=replace(board.cpu, model="Some Other CPU")))
    report = solved(device=str(path), validates=True)
    assert report.validation is None
    assert "Some Other CPU" in report.notes[0]


def test_steps_are_told_in_order() -> None:
    class Heard(NullProgress):
        def __init__(self) -> None:
            self.events: list[Event] = []

        def emit(self, event: Event) -> None:
            self.events.append(event)

    heard = Heard()
    run_demo(device=BOARD, budget=None, context=None, validates=False, thread_count=None, progress=heard)
    assert [(event.kind, event.stage) for event in heard.events] == [
        ("stage_started", "profile"),
        ("stage_finished", "profile"),
        ("stage_started", "solve"),
        ("stage_finished", "solve"),
    ]


def test_the_demo_reads_nothing_but_its_device_data(monkeypatch: pytest.MonkeyPatch, copied: Path) -> None:
    monkeypatch.setattr(demo, "demo_device_path", lambda: copied)
    shutil.rmtree(copied / "int4" / "eval")
    with pytest.raises(ModelError, match="eval"):
        solved()
