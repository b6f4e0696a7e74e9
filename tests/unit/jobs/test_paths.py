"""Paths of requests: made absolute by clients, and refused by the daemon where they lead elsewhere."""

from pathlib import Path
from typing import Any

import pytest

from edgeprune.errors import UsageError
from edgeprune.jobs.paths import absolute_request, check_request, place_output
from edgeprune.schema.jobs import RunJob
from edgeprune.schema.run import RunRequest
from tests.unit.jobs.requests import CASES, FILLED, with_text


def test_the_cases_name_every_field() -> None:
    assert len(CASES) == 40
    for request in FILLED:
        check_request(request)


@pytest.mark.parametrize(("request_", "place"), CASES, ids=lambda value: str(value)[:30])
@pytest.mark.parametrize(
    "text", ["../../etc/passwd", "/runs/../etc/passwd", "..", "a\0b", "/a\nb", "~/x", "./x", "/" + "x" * 5000, ""]
)
def test_a_path_that_leads_elsewhere_is_refused_in_every_field(
    request_: Any, place: tuple[Any, ...], text: str
) -> None:
    with pytest.raises(UsageError) as raised:
        check_request(with_text(request_, place, text))
    assert next(key for key in reversed(place) if isinstance(key, str)) in str(raised.value)
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize("output", ["a/b", "/abs", ".hidden", "-o", "a b", "x" * 200, "a\\b"])
def test_a_run_has_a_plain_name(output: str) -> None:
    with pytest.raises(UsageError, match="is no plain name"):
        check_request(RunJob(output=output))


def test_the_folder_of_runs_must_be_itself(tmp_path: Path) -> None:
    real = tmp_path.resolve() / "real"
    real.mkdir()
    link = tmp_path.resolve() / "link"
    link.symlink_to(real)
    check_request(RunJob(runs=str(real), output="a"))
    with pytest.raises(UsageError, match="leads through a link"):
        check_request(RunJob(runs=str(link), output="a"))
    (real / "out").symlink_to("/etc")
    with pytest.raises(UsageError, match="is a link"):
        check_request(RunJob(runs=str(real), output="out"))
    for runs in ("relative", "/", "/a/../b", "/a//b"):
        with pytest.raises(UsageError, match="runs"):
            check_request(RunJob(runs=runs, output="a"))


def test_a_client_makes_paths_absolute_and_leaves_names(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    request = RunJob(request=RunRequest(model="model", device="pi5", domain=("text.txt", "../up.txt")), output="mine")
    found = absolute_request(request, tmp_path)
    assert isinstance(found, RunJob)
    assert found.request.model == str(tmp_path / "model")
    assert found.request.device == "pi5"
    assert found.request.domain == (str(tmp_path / "text.txt"), str(tmp_path.parent / "up.txt"))
    assert found.runs == str((tmp_path / "edgeprune-runs").resolve())
    check_request(found)
    hub = absolute_request(RunJob(request=RunRequest(model="HuggingFaceTB/SmolLM2-135M@main")), tmp_path)
    assert isinstance(hub, RunJob)
    assert hub.request.model == "HuggingFaceTB/SmolLM2-135M@main"
    check_request(hub)


def test_every_absolute_request_is_taken(tmp_path: Path) -> None:
    for request in FILLED:
        check_request(absolute_request(request, tmp_path))


def test_an_output_folder_becomes_its_parent_and_a_name(tmp_path: Path) -> None:
    assert place_output(None) == (None, None)
    assert place_output(Path("a/b/../c"), base=tmp_path) == (str(tmp_path.resolve() / "a"), "c")
