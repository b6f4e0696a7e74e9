"""`--workers` and `--cluster`: refused in one sentence where they cannot be, and never part of a result."""

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from edgeprune.runtime.isolate import child_environment
from tests.cli.conftest import Inputs


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address where nobody listens, kept from being taken meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"tcp://127.0.0.1:{taken.getsockname()[1]}"


def run_process(*arguments: object) -> "subprocess.CompletedProcess[str]":
    """A process of its own: what libraries say when it ends is part of stderr."""
    return subprocess.run(
        [sys.executable, "-m", "edgeprune", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=child_environment(None),
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


def workers_of(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        children = psutil.Process(pid).children(recursive=True)
        return [child for child in children if "edgeprune.runtime.executor.child" in child.cmdline()]
    return []


@pytest.mark.slow
def test_an_interruption_is_exit_130_and_leaves_no_worker(inputs: Inputs, tmp_path: Path) -> None:
    arguments = [
        "run", inputs.model, "--domain", inputs.domain, "--general", inputs.domain, "--device", "raspberry-pi-5",
        "--context", "128", "--workers", "2", "-o", tmp_path / "out",
    ]  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-m", "edgeprune", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=child_environment(None),
        start_new_session=True,  # as from a terminal, the signal goes to the command alone: workers have their own
    ) as command:
        deadline_s = time.monotonic() + 300.0
        while len(workers := workers_of(command.pid)) < 2:
            assert command.poll() is None, command.communicate()
            assert time.monotonic() < deadline_s, "no workers were started"
            time.sleep(0.05)
        command.send_signal(signal.SIGINT)
        out, err = command.communicate(timeout=120)
    assert (command.returncode, out) == (130, "")
    assert err.strip().splitlines()[-1].startswith("edgeprune: interrupted")
    assert "Traceback" not in err
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive
