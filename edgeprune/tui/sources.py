"""The app's real sources: the daemon, this machine, this user's shelf. Every import waits for the thread that asks."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from edgeprune.tui.feed import MeterSource, Solver, Sources
from edgeprune.tui.view_state import ModelOption, NamedProfile

if TYPE_CHECKING:
    from edgeprune.jobs.protocol import JobsClient

__all__ = ["real_sources"]


def real_sources() -> Sources:
    """Jobs by the daemon, which is started when there is none; meters and shelf of this machine."""
    return Sources(_connect, _open_solver, _open_meters, _list_models, _list_profiles)


def _connect() -> "JobsClient":
    from edgeprune.jobs.client import connect  # httpx

    return connect(start=True)


def _open_solver(folder: str) -> Solver:
    from edgeprune.jobs.solver import SolverChild  # the child is started with it

    return SolverChild(Path(folder))


def _open_meters() -> MeterSource:
    from edgeprune.runtime.meters import MeterReader  # psutil and the GPU's driver

    return MeterReader()


def _list_models() -> tuple[ModelOption, ...]:
    from edgeprune.demo.paths import demo_model_path
    from edgeprune.tui.shelf import hub_cache, list_models

    return list_models(hub_cache(os.environ), demo_model_path())


def _list_profiles() -> tuple[NamedProfile, ...]:
    from edgeprune.tui.shelf import list_named_profiles

    return list_named_profiles()
