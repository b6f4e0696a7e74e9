"""The app as a user meets it: keys, figures that follow their records, nothing clipped, nothing killed."""

import asyncio
import json
from pathlib import Path

import pytest
from textual.containers import VerticalScroll
from textual.filter import Monochrome
from textual.widgets import Input

from edgeprune.schema.jobs import (
    CompressJob,
    DemoJob,
    ExportJob,
    GenerateJob,
    ProfileJob,
    ReportJob,
    RunJob,
    SearchJob,
    ValidateJob,
)
from edgeprune.tui.terminal import Looks
from edgeprune.tui.view_state import View
from edgeprune.tui.widgets.figure_table import FigureTable
from edgeprune.tui.widgets.heat_map import HeatMap
from edgeprune.tui.widgets.nav_bar import SCREEN_NAMES
from tests.tui.driving import LARGE, SMALL, is_finished, lines, opened, press, reopened, shown, start_run, until
from tests.tui.replay import ReplayClient, write_run


def ended(count: int) -> object:
    """Whether that many jobs have ended well."""

    def holds(view: View) -> bool:
        return sum(job.state == "succeeded" for job in view.jobs) >= count

    return holds


def test_the_whole_job_by_keys_alone(tmp_path: Path) -> None:
    """Open, take the embedded default, set a budget, run, search again, export, validate, read the report."""
    client = ReplayClient(tmp_path)

    async def drive() -> None:
        async with opened(client) as (app, pilot):
            await start_run(pilot, app)
            await until(pilot, app, is_finished)
            assert "2.40 MB" in shown(app)
            await press(pilot, "3", "l", "tab", "tab", "tab", "tab", *["backspace"] * 5, *"1.9MB", "escape")
            await until(pilot, app, lambda view: view.solved is not None)
            assert "1.90 MB" in shown(app)
            await press(pilot, "4", "s")
            await until(pilot, app, ended(2))  # type: ignore[arg-type]
            await press(pilot, "c")
            await until(pilot, app, ended(4))  # type: ignore[arg-type]
            await press(pilot, "5")
            assert "model.onnx.data" in shown(app)
            await press(pilot, "6", "v")
            await until(pilot, app, ended(5))  # type: ignore[arg-type]
            assert "75.3 MB of 120 MB" in shown(app)
            await press(pilot, "8", "r")
            await until(pilot, app, ended(6))  # type: ignore[arg-type]
            await pilot.pause(0.2)
            assert "demo on this-device: met" in shown(app)

    asyncio.run(drive())
    kinds = [type(request) for request in client.submitted]
    assert kinds == [RunJob, SearchJob, CompressJob, ExportJob, ValidateJob, ReportJob]
    run, search = client.submitted[0], client.submitted[1]
    assert isinstance(run, RunJob)
    assert run.request.model is None
    assert run.request.budget.disk is not None
    assert run.request.budget.disk.absolute == 2_400_000
    assert isinstance(search, SearchJob)
    assert search.budget is not None
    assert search.budget.disk is not None
    assert search.budget.disk.absolute == 1_900_000


def test_a_number_follows_its_record(tmp_path: Path) -> None:
    """Change the record on disk and the screen changes, without a key."""
    client = ReplayClient.after_a_run(tmp_path)

    async def drive() -> None:
        async with reopened(client) as (app, pilot):
            await press(pilot, "6")
            assert "75.3 MB of 120 MB" in shown(app)
            path = tmp_path / "demo" / "validation.json"
            record = json.loads(path.read_bytes())
            record["checks"][0]["measured"] = 91_000_000
            path.write_text(json.dumps(record))
            await until(pilot, app, lambda view: view.records.validation.checks[0].measured == 91_000_000)  # type: ignore[union-attr]
            assert "91.0 MB of 120 MB" in shown(app)
            assert "75.3 MB of 120 MB" not in shown(app)

    asyncio.run(drive())


@pytest.mark.parametrize("name", SCREEN_NAMES)
def test_every_figure_tells_record_and_field(name: str, tmp_path: Path) -> None:
    client = ReplayClient.after_a_run(tmp_path)

    async def drive() -> None:
        async with reopened(client, size=LARGE) as (app, pilot):
            await press(pilot, str(SCREEN_NAMES.index(name) + 1))
            found = [
                figure for widget in app.screen.query("*") if hasattr(widget, "origins") for figure in widget.origins()
            ]
            if name not in ("report", "jobs", "model"):
                assert len(found) > 3
            for figure in found:
                assert figure.record
                assert figure.field
                assert figure.text

    asyncio.run(drive())


def test_i_shows_where_figures_are_from_and_a_question_mark_helps(tmp_path: Path) -> None:
    async def drive() -> None:
        async with reopened(ReplayClient.after_a_run(tmp_path)) as (app, pilot):
            await press(pilot, "4", "i")
            assert "front.json : chosen.cost.disk_bytes" in shown(app)
            await press(pilot, "escape", "question_mark")
            assert "Keys here" in shown(app)
            assert "Lock site" in shown(app)

    asyncio.run(drive())


def test_a_field_swallows_letters_and_digits(tmp_path: Path) -> None:
    async def drive() -> None:
        async with opened(ReplayClient(tmp_path)) as (app, pilot):
            await press(pilot, "2", "m", *"s1i?8")
            assert app.screen.id == "screen-model"
            assert app.screen.query_one("#path", Input).value == "s1i?8"
            await press(pilot, "escape", "3")
            assert app.screen.id == "screen-budget"

    asyncio.run(drive())


@pytest.mark.parametrize("size", [SMALL, (100, 30), LARGE])
def test_nothing_is_cut_off_at_the_edges(size: tuple[int, int], tmp_path: Path) -> None:
    """Every screen fits its width, and its last line is a footer whose help can be read."""

    async def drive() -> None:
        async with reopened(ReplayClient.after_a_run(tmp_path), size=size) as (app, pilot):
            for number in range(1, 9):
                await press(pilot, str(number))
                drawn = lines(app)
                assert len(drawn) == size[1]
                assert all(len(line) <= size[0] for line in drawn)
                assert "8 Report" in drawn[0]
                assert "? Help" in drawn[-1]
                inside = (widget for widget in app.screen.query("#body *") if widget.display and widget.region)
                for widget in inside:
                    scrolls = any(isinstance(node, (VerticalScroll, FigureTable)) for node in widget.ancestors)
                    assert scrolls or widget.region.right <= size[0]

    asyncio.run(drive())


def test_every_empty_screen_says_what_to_press(tmp_path: Path) -> None:
    async def drive() -> None:
        async with opened(ReplayClient(tmp_path)) as (app, pilot):
            for number, word in ((2, "press f"), (3, "press s"), (4, "Press 2"), (5, "press c"), (6, "screen 4"),
                                 (7, "press 2"), (8, "2 to choose")):  # fmt: skip
                await press(pilot, str(number))
                await pilot.pause(0.1)
                assert word in shown(app).replace("\n", " "), number

    asyncio.run(drive())


def test_what_cannot_be_done_yet_is_said_in_a_sentence_and_submits_nothing(tmp_path: Path) -> None:
    client = ReplayClient(tmp_path)

    async def drive() -> None:
        async with opened(client) as (app, pilot):
            for number, key in ((3, "s"), (4, "s"), (4, "c"), (4, "w"), (5, "y"), (6, "v"), (8, "r")):
                await press(pilot, str(number), key)
                assert app.view.sentence.endswith((".", ")."))

    asyncio.run(drive())
    assert client.submitted == []


def test_closing_the_app_cancels_no_job(tmp_path: Path) -> None:
    client = ReplayClient(tmp_path, hold_in="calibrate")

    async def drive() -> None:
        async with opened(client) as (app, pilot):
            await start_run(pilot, app)
            await until(pilot, app, lambda view: view.stage("calibrate") is not None)
            await press(pilot, "ctrl+q")

    asyncio.run(drive())
    assert client.cancelled == []
    assert len(client.submitted) == 1


def test_opening_again_follows_the_job_that_went_on(tmp_path: Path) -> None:
    client = ReplayClient(tmp_path, hold_in="calibrate")

    async def drive() -> None:
        async with opened(client) as (app, pilot):
            await start_run(pilot, app)
            await until(pilot, app, lambda view: "calibrate" in {s.name for s in view.stages if s.state == "running"})
        client._released.clear()
        async with opened(client) as (app, pilot):
            await press(pilot, "4")
            await until(pilot, app, lambda view: view.followed == "j0001" and bool(view.stages))
            assert "calibrate" in shown(app)

    asyncio.run(drive())


def test_cancel_asks_the_job_under_the_cursor(tmp_path: Path) -> None:
    client = ReplayClient(tmp_path, hold_in="calibrate")

    async def drive() -> None:
        async with opened(client) as (app, pilot):
            await start_run(pilot, app)
            await until(pilot, app, lambda view: view.stage("calibrate") is not None)
            await press(pilot, "7", "c")
            await until(pilot, app, lambda view: view.jobs[0].state == "cancelled")
            assert "cancelled" in shown(app)

    asyncio.run(drive())
    assert client.cancelled == ["j0001"]


def test_a_lock_is_solved_for_and_goes_into_the_search(tmp_path: Path) -> None:
    client = ReplayClient.after_a_run(tmp_path)

    async def drive() -> None:
        async with reopened(client) as (app, pilot):
            await press(pilot, "4")
            app.screen.query_one("#heat", HeatMap).focus()
            await press(pilot, "right", "down", "l")
            await until(pilot, app, lambda view: view.solved is not None)
            assert {lock.pattern for lock in app.view.draft.locks} == {"blocks.1.k"}
            await press(pilot, "s")
            await until(pilot, app, ended(2))  # type: ignore[arg-type]

    asyncio.run(drive())
    search = client.submitted[-1]
    assert isinstance(search, SearchJob)
    assert {lock.pattern for lock in search.locks or ()} == {"blocks.1.k"}


def test_an_impossible_budget_offers_a_way_out_and_takes_it(tmp_path: Path) -> None:
    async def drive() -> None:
        async with reopened(ReplayClient.after_a_run(tmp_path)) as (app, pilot):
            await press(pilot, "3", "l", *["tab"] * 6, *"1%", "escape")
            await until(pilot, app, lambda view: view.solved is not None and view.solved.infeasible is not None)
            assert "Nothing fits" in shown(app)
            app.screen.query_one("#advice", FigureTable).focus()
            await press(pilot, "enter")
            assert dict(app.view.draft.limits)["memory"] == "75.4MB"

    asyncio.run(drive())


def test_both_models_answer_side_by_side(tmp_path: Path) -> None:
    client = ReplayClient.after_a_run(tmp_path)

    async def drive() -> None:
        async with reopened(client) as (app, pilot):
            await press(pilot, "5", "t", *"The patient was", "enter")
            await until(pilot, app, lambda view: bool(view.chat) and all(answer for _, answer in view.chat[0].answers))
            assert "written off in public" in shown(app)
            assert "6.58 ms" in shown(app)

    asyncio.run(drive())
    asked = [request for request in client.submitted if isinstance(request, GenerateJob)]
    assert sorted(request.bundle.removeprefix(str(tmp_path)) for request in asked) == [
        "/demo/baselines/dense",
        "/demo/bundle",
    ]


def test_p_profiles_this_device_under_a_name(tmp_path: Path) -> None:
    client = ReplayClient(tmp_path)

    async def drive() -> None:
        async with opened(client) as (app, pilot):
            await press(pilot, "p")
            await until(pilot, app, ended(1))  # type: ignore[arg-type]

    asyncio.run(drive())
    assert client.submitted == [ProfileJob(save="here")]


def test_a_plain_console_gets_only_glyphs_that_it_has(tmp_path: Path) -> None:
    """Code page 437 is what a console's font surely has; marks stand beside words, so colour is never alone."""
    looks = Looks(glyphs="block", theme="edgeprune-console", has_motion=False)

    async def drive() -> None:
        async with reopened(ReplayClient.after_a_run(tmp_path), looks=looks) as (app, pilot):
            for number in range(1, 9):
                await press(pilot, str(number))
                await pilot.pause(0.1)
                strange = {character for character in shown(app) if not _has(character)}
                assert not strange, (number, strange)

    asyncio.run(drive())


def _has(character: str) -> bool:
    try:
        character.encode("cp437")
    except UnicodeEncodeError:
        return False
    return True


def test_ascii_is_enough(tmp_path: Path) -> None:
    looks = Looks(glyphs="ascii", theme="edgeprune-console", has_motion=False)

    async def drive() -> None:
        async with reopened(ReplayClient.after_a_run(tmp_path), looks=looks) as (app, pilot):
            for number in range(1, 8):
                await press(pilot, str(number))
                body = "\n".join(line for line in lines(app)[2:-1] if not line.strip().startswith("─"))
                assert all(ord(character) < 0x80 for character in body.replace("─", "").replace("·", "")), number

    asyncio.run(drive())


def test_without_colour_nothing_is_coloured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def drive() -> None:
        async with reopened(ReplayClient.after_a_run(tmp_path)) as (app, pilot):
            await press(pilot, "6")
            assert any(isinstance(entry, Monochrome) for entry in app._filters)
            assert "✓ memory" in shown(app)
            assert "met" in shown(app)

    asyncio.run(drive())


def test_a_resumed_job_is_followed_on(tmp_path: Path) -> None:
    client = ReplayClient(tmp_path, hold_in="calibrate")

    async def drive() -> None:
        async with opened(client) as (app, pilot):
            await start_run(pilot, app)
            await until(pilot, app, lambda view: view.stage("calibrate") is not None)
            await press(pilot, "7", "c")
            await until(pilot, app, lambda view: view.jobs[0].state == "cancelled")
            await press(pilot, "r")
            await until(pilot, app, is_finished)
            # Events come by a thread of their own, perhaps after the records.
            await until(pilot, app, lambda view: {stage.state for stage in view.stages} == {"done"})

    asyncio.run(drive())


def test_a_slider_writes_its_stop_and_the_front_is_solved_again(tmp_path: Path) -> None:
    async def drive() -> None:
        async with reopened(ReplayClient.after_a_run(tmp_path), 3) as (app, pilot):
            app.screen.query_one("#limit-disk Slider").focus()
            await press(pilot, "home", "end")
            assert dict(app.view.draft.limits)["disk"] == "5%"
            await until(pilot, app, lambda view: view.solved is not None and not view.is_solving)
            assert app.screen.query_one("#limit-disk Input", Input).value == "5%"

    asyncio.run(drive())


def test_the_demo_can_be_tried_before_any_run(tmp_path: Path) -> None:
    client = ReplayClient(tmp_path)

    async def drive() -> None:
        async with opened(client) as (app, pilot):
            await press(pilot, "2", "enter", "3", "l", "tab", "tab", "tab", "tab", *"1.9MB", "escape", "t")
            await until(pilot, app, lambda view: view.solved is not None)
            assert "1.90 MB" in shown(app)

    asyncio.run(drive())
    (request,) = client.submitted
    assert isinstance(request, DemoJob)
    assert not request.validates
    assert request.budget is not None
    assert request.budget.disk is not None
    assert request.budget.disk.absolute == 1_900_000


def test_the_palette_knows_screens_and_keys(tmp_path: Path) -> None:
    async def drive() -> None:
        async with reopened(ReplayClient.after_a_run(tmp_path), 4) as (app, pilot):
            await press(pilot, "ctrl+p", *"lock block")
            await pilot.pause(0.5)
            await press(pilot, "enter")
            await until(pilot, app, lambda view: bool(view.draft.locks))
            assert {lock.pattern for lock in app.view.draft.locks} == {"block.0"}
            await press(pilot, "ctrl+p", *"go to report")
            await pilot.pause(0.5)
            await press(pilot, "enter")
            await pilot.pause(0.2)
            assert app.screen.id == "screen-report"

    asyncio.run(drive())


def test_a_share_of_one_model_is_no_limit_for_many(tmp_path: Path) -> None:
    client = ReplayClient(tmp_path)

    async def drive() -> None:
        async with opened(client) as (app, pilot):
            await press(pilot, "3", "l", *"60%", "escape", "2", "f")
            assert "60% is a share of one model" in app.view.sentence

    asyncio.run(drive())
    assert client.submitted == []


def test_the_folder_of_an_earlier_run_opens_it(tmp_path: Path) -> None:
    write_run(tmp_path / "earlier")

    async def drive() -> None:
        async with opened(ReplayClient(tmp_path)) as (app, pilot):
            await press(pilot, "2", "m")
            app.screen.query_one("#path", Input).value = str(tmp_path / "earlier")
            await press(pilot, "enter")
            await until(pilot, app, lambda view: view.records.validation is not None)
            await press(pilot, "6")
            assert "75.3 MB of 120 MB" in shown(app)
            assert dict(app.view.draft.limits)["disk"] == "2.4MB"

    asyncio.run(drive())
