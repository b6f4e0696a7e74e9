"""Pictures of every screen after the recorded run, at 80x24 and 160x48: SVG, compared as text.

`EDGEPRUNE_SNAPSHOTS=write` writes them anew: look at them before they are committed. One archive holds them all.
pytest-textual-snapshot pins a syrupy that refuses this pytest, so the comparison is ours.
"""

import asyncio
import os
import time
import zipfile
from pathlib import Path

import pytest

from edgeprune.tui.widgets.nav_bar import SCREEN_NAMES
from tests.tui.driving import LARGE, SMALL, normal_svg, press, reopened, settled, until
from tests.tui.replay import ReplayClient

ARCHIVE = Path(__file__).with_name("snapshots.zip")
IS_WRITING = os.environ.get("EDGEPRUNE_SNAPSHOTS") == "write"
KEYS: dict[str, tuple[str, ...]] = {"search": ("w",), "model": ("f",)}
"""What is pressed before the picture is taken."""


async def picture(name: str, size: tuple[int, int], root: Path) -> str:
    async with reopened(ReplayClient.after_a_run(root), SCREEN_NAMES.index(name) + 1, size=size) as (app, pilot):
        await press(pilot, *KEYS.get(name, ()))
        # The answer is there, and so is the list of jobs in which its job has ended.
        await until(pilot, app, lambda view: name != "search" or view.explanation is not None)
        await until(pilot, app, lambda view: name != "model" or view.fit is not None)
        await until(
            pilot, app, lambda view: len(view.jobs) == 1 + (name in KEYS) and all(job.is_over for job in view.jobs)
        )
        await settled(app)
        svg, before = normal_svg(app, root), ""
        while svg != before:
            await pilot.pause(0.3)
            await settled(app)
            svg, before = normal_svg(app, root), svg
        return svg


def stored() -> dict[str, str]:
    if not ARCHIVE.is_file():
        return {}
    with zipfile.ZipFile(ARCHIVE) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def store(name: str, svg: str) -> None:
    every = stored() | {name: svg}
    with zipfile.ZipFile(ARCHIVE, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for entry in sorted(every):
            archive.writestr(zipfile.ZipInfo(entry), every[entry], zipfile.ZIP_DEFLATED, 9)


@pytest.mark.slow
@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["80x24", "160x48"])
@pytest.mark.parametrize("name", SCREEN_NAMES)
def test_a_screen_looks_as_it_was_approved(
    name: str, size: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    svg = asyncio.run(picture(name, size, tmp_path))
    entry = f"{name}-{size[0]}x{size[1]}.svg"
    if IS_WRITING:
        store(entry, svg)
        return
    known = stored()
    assert entry in known, "no picture yet; run with EDGEPRUNE_SNAPSHOTS=write and look at it"
    if svg != known[entry]:
        (tmp_path / entry).write_text(svg, encoding="utf-8")
        pytest.fail(f"{entry} looks different; the new picture is {tmp_path / entry}")
