"""Drives the app in a test: opens it over recorded jobs, presses keys, waits for what must come."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from textual.pilot import Pilot

from edgeprune.tui.app import EdgePruneApp
from edgeprune.tui.terminal import Looks
from edgeprune.tui.view_state import View
from tests.tui.replay import ReplayClient, replay_sources

STILL = Looks(has_motion=False)
"""Nothing moves, so that a picture of it is always the same."""

SMALL, LARGE = (80, 24), (160, 48)


@contextlib.asynccontextmanager
async def opened(
    client: ReplayClient, *, size: tuple[int, int] = SMALL, looks: Looks = STILL
) -> AsyncIterator[tuple[EdgePruneApp, Pilot[None]]]:
    """The app with its first messages read."""
    app = EdgePruneApp(replay_sources(client), looks=looks)
    async with app.run_test(size=size) as pilot:
        await until(pilot, app, lambda view: bool(view.has_listed and view.profiles and view.meters and view.models))
        try:
            yield app, pilot
        finally:
            client.release()


async def until(pilot: Pilot[None], app: EdgePruneApp, holds: Callable[[View], bool], *, most: int = 1000) -> None:
    """Let the app work until its view is as it must become, then until that is drawn."""
    for _ in range(most):
        if holds(app.view):
            await pilot.pause()
            await pilot.pause()
            return
        await pilot.pause(0.02)
    raise AssertionError(f"it did not come to it; the app says {app.view.sentence!r}")


async def settled(app: EdgePruneApp, *, times: int = 5) -> None:
    """Wait until nothing is left to do: no message, callback, layout or widget to draw, several looks in a row.

    `Pilot.pause` takes a process that gets no processor for one that has nothing to do.
    """
    quiet = 0
    while quiet < times:
        await asyncio.sleep(0.02)
        screen = app.screen
        has_messages = any(
            node._next_callbacks or not node._message_queue.empty() for node in (app, screen, *screen.query("*"))
        )
        is_due = screen._layout_required or screen._dirty_widgets or screen._callbacks or app._is_draw_due
        quiet = 0 if has_messages or is_due else quiet + 1


async def press(pilot: Pilot[None], *keys: str) -> None:
    """Press keys one after another, each read before the next."""
    for key in keys:
        await pilot.press(key)
        await pilot.pause()


async def start_run(pilot: Pilot[None], app: EdgePruneApp) -> None:
    """The embedded default, a disk limit, and the whole run."""
    await press(pilot, "2", "enter", "3", "l", "tab", "tab", "tab", "tab", *"2.4MB", "escape", "s")


@contextlib.asynccontextmanager
async def reopened(
    client: ReplayClient, screen: int | None = None, *, size: tuple[int, int] = SMALL, looks: Looks = STILL
) -> AsyncIterator[tuple[EdgePruneApp, Pilot[None]]]:
    """The app after a run (`ReplayClient.after_a_run`), on one screen by its number."""
    async with opened(client, size=size, looks=looks) as (app, pilot):
        await until(pilot, app, is_finished)
        if screen is not None:
            await press(pilot, str(screen))
            await pilot.pause()
        yield app, pilot


def is_finished(view: View) -> bool:
    """Whether the followed job succeeded and everything it wrote was read."""
    job = view.job(view.followed)
    has_all = view.records.report is not None and view.report_text is not None and view.records.bundle is not None
    return job is not None and job.state == "succeeded" and has_all


def lines(app: EdgePruneApp) -> list[str]:
    """The screen as text."""
    return ["".join(segment.text for segment in strip) for strip in app.screen._compositor.render_strips()]


def shown(app: EdgePruneApp) -> str:
    """The screen as one text."""
    return "\n".join(lines(app))


def normal_svg(app: EdgePruneApp, *folders: Path) -> str:
    """The screen as SVG, without what differs from run to run: generated ids, fonts, folders of the test."""
    svg = app.export_screenshot()
    for folder in folders:
        svg = svg.replace(str(folder), "/runs")
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    svg = re.sub(r"terminal-\d+", "terminal", svg)
    return "\n".join(line.rstrip() for line in svg.splitlines() if line.strip()) + "\n"
