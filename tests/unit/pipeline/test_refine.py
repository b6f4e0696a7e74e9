"""The stage on a tiny model: killed at any moment it repeats nothing, and the same inputs give the same recipe."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeprune.artifacts import RunFolder
from edgeprune.errors import UsageError
from edgeprune.pipeline import refine
from edgeprune.pipeline.table import Run
from edgeprune.schema.events import NullProgress
from edgeprune.schema.recipe import Recipe
from edgeprune.schema.residuals import EvaluationTask
from edgeprune.schema.run import RunManifest, RunRequest

REPOSITORY = Path(__file__).parents[3]


@pytest.mark.slow
def test_a_search_killed_at_twenty_random_moments_repeats_no_finished_evaluation(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("killed.py")), str(tmp_path), "20"],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["statuses"] == [0, 0], done.stderr
    assert found["repeated"] == []
    assert found["counts"] == sorted(found["counts"])
    assert found["alive_when_killed"] > 0
    assert found["resumed"] == found["undisturbed"]
    assert found["same"] == [True, True]


def test_without_torch_building_is_refused_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = RunRequest(model="m")
    run = Run(
        folder=RunFolder(tmp_path), request=request, manifest=RunManifest(request=request), progress=NullProgress()
    )
    task = EvaluationTask(
        key="k", recipe_hash="r", model="m", model_hash="m", stats="s", stats_hash="s", texts="t", texts_hash="t",
        window_tokens=8, token_limit=8, recipe=Recipe(model_hash="m", context_tokens=8),
    )  # fmt: skip
    monkeypatch.setattr(refine.importlib.util, "find_spec", lambda name: None)
    assert list(refine.built(run, [])) == []
    with pytest.raises(UsageError, match=r"torch.*--evaluations 0"):
        list(refine.built(run, [task]))
