"""The stage on a tiny model: killed at any moment it repeats nothing, and the same inputs give the same recipe."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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
