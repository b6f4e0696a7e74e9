"""`edgeprune runs list|rm`."""

import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Cli


@pytest.fixture
def runs(finished: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    shutil.copytree(finished, folder / "first", symlinks=True)
    shutil.copytree(finished, folder / "second", symlinks=True)
    (folder / "second" / "report.json").unlink()
    (folder / "notes").mkdir()
    (folder / "notes" / "mine.txt").write_text("keep")
    (folder / "linked").symlink_to(folder / "first")
    return folder


@pytest.mark.slow
def test_runs_are_listed_and_nothing_else_is(cli: Cli, runs: Path) -> None:
    answer = cli("runs", "list", "--in", runs, "--json")
    assert answer.code == 0
    found = {entry["name"]: entry for entry in answer.json["runs"]}  # type: ignore[attr-defined]
    assert set(found) == {"first", "second"}
    assert found["first"]["verdict"] in ("met", "not_met", "unmeasured")
    assert found["second"]["verdict"] is None
    assert found["first"]["stages"][-1] == "report"
    assert found["first"]["size_bytes"] > 0
    assert "first" in cli("runs", "list", "--in", runs).out


@pytest.mark.slow
def test_a_run_is_removed_whole_and_a_wrong_name_removes_nothing(cli: Cli, runs: Path) -> None:
    for name in ("notes", "linked", "../runs", "missing"):
        answer = cli("runs", "rm", "first", name, "--in", runs, "--yes")
        assert answer.code == 2
        assert "Nothing was removed" in answer.err
    assert (runs / "first").is_dir()
    assert cli("runs", "rm", "first", "--in", runs, "--yes").code == 0
    assert not (runs / "first").exists()
    assert (runs / "second").is_dir()
    assert (runs / "notes" / "mine.txt").read_text() == "keep"


def test_a_folder_that_is_not_there_is_refused(cli: Cli, tmp_path: Path) -> None:
    answer = cli("runs", "list", "--in", tmp_path / "none")
    assert answer.code == 2
    assert "no folder" in answer.err
