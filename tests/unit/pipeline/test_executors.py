"""The same recipe, byte by byte, in one process, in two, and on a cluster of two workers."""

import contextlib
import os
import signal
import socket
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace

from edgeprune import api
from edgeprune.artifacts import RunFolder, read_record, read_toml
from edgeprune.errors import ProtocolError
from edgeprune.pipeline.evaluations import edits_hash
from edgeprune.pipeline.request import complete_request
from edgeprune.pipeline.stages import STAGES
from edgeprune.pipeline.table import Run, hash_tree, is_finished, run_stages
from edgeprune.runtime.executor.processes import ProcessExecutor
from edgeprune.schema.budget import BudgetRequest, Limit
from edgeprune.schema.candidate import SearchResult
from edgeprune.schema.events import Event, NullProgress, Progress
from edgeprune.schema.recipe import Recipe
from edgeprune.schema.residuals import Residuals
from edgeprune.schema.run import RunManifest, RunRequest
from tests.cli.conftest import write_domain
from tests.local_cluster import local_cluster
from tests.tiny import write_tiny_llama

DECIDED = ("intake", "profile", "calibrate", "search", "refine", "compress")
"""The stages up to the compressed model; what comes after measures this machine's time."""


@dataclass(frozen=True)
class Inputs:
    model: Path
    domain: Path


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    root = tmp_path_factory.mktemp("inputs")
    return Inputs(model=write_tiny_llama(root / "model"), domain=write_domain(root / "domain.jsonl"))


def open_run(inputs: Inputs, root: Path, *, progress: Progress | None = None, **where: object) -> Run:
    request = RunRequest(
        model=str(inputs.model),
        device="raspberry-pi-5",
        domain=(str(inputs.domain),),
        general=(str(inputs.domain),),
        context_tokens=128,
        budget=BudgetRequest(disk=Limit(absolute=120_000.0)),
        evaluations=6,
        **where,  # type: ignore[arg-type]
    )
    completed = complete_request(request)
    root.mkdir(parents=True, exist_ok=True)
    return Run(
        folder=RunFolder(root),
        request=completed,
        manifest=RunManifest(request=completed),
        progress=progress or NullProgress(),
    )


def finish(run: Run) -> RunFolder:
    with contextlib.closing(run):
        run_stages(tuple(stage for stage in STAGES if stage.name in DECIDED), run)
    return run.folder


def assert_same(found: RunFolder, expected: RunFolder) -> None:
    mine, other = read_toml(found.recipe, Recipe), read_toml(expected.recipe, Recipe)
    assert edits_hash(mine) == edits_hash(other)
    fronts = [replace(read_record(folder.front, SearchResult), solve_s=0.0) for folder in (found, expected)]
    assert fronts[0] == fronts[1]
    for path in ("recipe", "residuals", "stats", "scores", "scores_arrays", "hf"):
        assert hash_tree(getattr(found, path)) == hash_tree(getattr(expected, path)), path


@pytest.fixture(scope="module")
def here(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = finish(open_run(inputs, tmp_path_factory.mktemp("here") / "run"))
    residuals = read_record(folder.residuals, Residuals)
    assert len(residuals.evaluations) >= 3, "too few recipes were built to compare anything"
    assert read_toml(folder.recipe, Recipe).sites, "the recipe edits nothing"
    return folder


@pytest.mark.slow
def test_two_processes_give_the_recipe_of_one(inputs: Inputs, here: RunFolder, tmp_path: Path) -> None:
    assert_same(finish(open_run(inputs, tmp_path / "run", worker_count=2)), here)


class Killer(NullProgress):
    """Kills every worker when the first recipe has been measured."""

    def __init__(self) -> None:
        self.run: Run | None = None
        self.killed: list[int] = []

    def emit(self, event: Event) -> None:
        if self.run is None or self.killed or (event.stage, event.kind) != ("refine", "stage_advanced"):
            return
        executor = self.run.executor()
        assert isinstance(executor, ProcessExecutor)
        self.killed = list(executor.worker_pids)
        for pid in self.killed:
            os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
def test_workers_killed_between_evaluations_change_nothing(inputs: Inputs, here: RunFolder, tmp_path: Path) -> None:
    killer = Killer()
    killer.run = open_run(inputs, tmp_path / "run", worker_count=2, progress=killer)
    assert_same(finish(killer.run), here)
    assert len(killer.killed) == 2


@pytest.mark.slow
def test_a_cluster_of_two_workers_gives_the_recipe_of_one(inputs: Inputs, here: RunFolder, tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    with local_cluster(tmp_path / "dask") as cluster:
        assert_same(finish(open_run(inputs, tmp_path / "run", cluster=cluster.address)), here)


@pytest.mark.slow
def test_where_the_work_is_done_is_in_no_key(inputs: Inputs, here: RunFolder) -> None:
    done = open_run(inputs, here.root)
    done.manifest = read_record(here.manifest, RunManifest)
    done.request = replace(done.request, worker_count=7, cluster="tcp://192.0.2.1:8786")
    assert [stage.name for stage in STAGES if stage.name in DECIDED and is_finished(stage, done)] == list(DECIDED)


@pytest.mark.slow
def test_a_search_whose_cluster_is_gone_leaves_the_run_as_it_was(here: RunFolder) -> None:
    pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    before = hash_tree(here.root)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(ProtocolError, match="cannot be reached"):
            api.search(here.root, evaluations=6, cluster=f"tcp://127.0.0.1:{taken.getsockname()[1]}")
    assert hash_tree(here.root) == before
