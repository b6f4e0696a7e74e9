"""`--workers` and `--cluster`: refused in one sentence where they cannot be, and never part of a result."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import edgeprune
from tests.cli.conftest import Inputs


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address where nobody listens, kept from being taken meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"tcp://127.0.0.1:{taken.getsockname()[1]}"


def run_process(*arguments: object) -> "subprocess.CompletedProcess[str]":
    """A process of its own: what libraries say when it ends is part of stderr."""
    root = str(Path(edgeprune.__file__).resolve().parents[1])
    return subprocess.run(
        [sys.executable, "-m", "edgeprune", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=dict(os.environ, PYTHONPATH=root),
        timeout=300,
    )


def test_an_unreachable_cluster_is_exit_5_before_any_work(inputs: Inputs, nobody: str, tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    done = run_process("run", inputs.model, "--domain", inputs.domain, "-o", tmp_path / "out", "--cluster", nobody)
    assert done.returncode == 5
    assert done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(f"edgeprune: The cluster at '{nobody}' cannot be reached")
    assert "--cluster" in line
    assert list((tmp_path / "out").iterdir()) == []


def test_no_workers_and_two_places_at_once_are_bad_usage(inputs: Inputs, nobody: str, tmp_path: Path) -> None:
    arguments = ("run", inputs.model, "--domain", inputs.domain, "-o", tmp_path / "out")
    both = run_process(*arguments, "--workers", 2, "--cluster", nobody)
    assert (both.returncode, both.stdout) == (2, "")
    assert "exclude each other" in both.stderr
    none = run_process(*arguments, "--workers", 0)
    assert (none.returncode, none.stdout) == (2, "")
    assert "--workers" in none.stderr
