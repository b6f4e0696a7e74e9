"""What can be found without a manual: rows by a filter, the way out of a field, what the arrows are for."""

import asyncio
from pathlib import Path

from textual.scrollbar import ScrollBar, ScrollBarRender

from edgeprune.tui.app import EdgePruneApp
from edgeprune.tui.plain import PlainScrollBar
from edgeprune.tui.terminal import Looks
from edgeprune.tui.widgets.figure_table import Column, FigureTable, Row
from edgeprune.tui.widgets.heat_map import HeatMap
from tests.tui.driving import lines, opened, press, reopened, shown, until
from tests.tui.replay import ReplayClient, replay_sources


def test_a_filter_narrows_a_table_while_it_is_typed_and_escape_lifts_it(tmp_path: Path) -> None:
    async def drive() -> None:
        async with opened(ReplayClient(tmp_path)) as (app, pilot):
            table = app.screen.query_one("#profiles", FigureTable)
            every = len(table.rows_shown)
            await press(pilot, "slash", *"JETSON")
            assert {row.key for row in table.rows_shown} == {"jetson-orin-nano"}
            await press(pilot, "enter", "enter")
            assert app.view.draft.device == "jetson-orin-nano"
            assert "profile /JETSON" in shown(app)
            await press(pilot, "slash", "escape")
            assert len(table.rows_shown) == every
            assert table.key_at_cursor == "jetson-orin-nano"  # the cursor stays on its row

    asyncio.run(drive())


def test_the_footer_says_how_to_leave_a_field(tmp_path: Path) -> None:
    async def drive() -> None:
        async with opened(ReplayClient(tmp_path)) as (app, pilot):
            await press(pilot, "3")
            assert "Leave the field" not in lines(app)[-1]
            await press(pilot, "l")
            await until(pilot, app, lambda _: "esc Leave the field" in lines(app)[-1])
            await press(pilot, "escape")
            await until(pilot, app, lambda _: "s Start" in lines(app)[-1])

    asyncio.run(drive())


def test_why_gives_the_arrows_to_the_map(tmp_path: Path) -> None:
    async def drive() -> None:
        async with reopened(ReplayClient.after_a_run(tmp_path), 4) as (app, pilot):
            await press(pilot, "w")
            await until(pilot, app, lambda view: view.explanation is not None)
            await press(pilot, "right")
            assert isinstance(app.focused, HeatMap)
            assert app.focused.block == 1
            assert "block 1:" in shown(app)

    asyncio.run(drive())


def test_what_a_plain_console_needs_does_not_stay_behind(tmp_path: Path) -> None:
    for glyphs, renderer in (("block", PlainScrollBar), ("braille", ScrollBarRender)):
        EdgePruneApp(replay_sources(ReplayClient(tmp_path)), looks=Looks(glyphs=glyphs))  # type: ignore[arg-type]
        assert ScrollBar.renderer is renderer


def test_a_table_is_never_drawn_with_cells_cut_off(tmp_path: Path) -> None:
    """Drawn between its rows and textual's next idle moment, as on a busy machine."""
    columns = (Column("model", is_text=True), Column("memory"))

    async def drive() -> None:
        async with opened(ReplayClient(tmp_path)) as (app, _):
            table = app.screen.query_one("#profiles", FigureTable)
            table.show(columns, [])
            table.show(columns, [Row("a", ("a-model-with-a-long-name", "7.36 GB"))])
            assert "a-model-with-a-long-name  7.36 GB" in table.render_line(1).text
            table.show(columns, [Row("a", ("a-model-with-a-longer-name-yet", "7.36 GB"))])
            assert "a-model-with-a-longer-name-yet  7.36 GB" in table.render_line(1).text

    asyncio.run(drive())


def test_the_end_of_a_profile_is_told_where_it_was_asked_for(tmp_path: Path) -> None:
    async def drive() -> None:
        async with opened(ReplayClient(tmp_path)) as (app, pilot):
            await press(pilot, "p")
            await until(pilot, app, lambda view: "was measured and is kept as 'here'" in view.sentence)

    asyncio.run(drive())
