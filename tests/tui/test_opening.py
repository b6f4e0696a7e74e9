"""`edgeprune` without a verb: the app in a terminal, help and exit code 2 elsewhere."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from edgeprune.jobs.client import find_daemon
from edgeprune.jobs.places import Places
from tests.cli.daemon_process import daemon_places, wait_for

ROOT = Path(__file__).parents[2]


def test_without_a_terminal_it_prints_help_and_exits_with_2() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edgeprune"], capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=ROOT
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Usage: edgeprune" in done.stderr
    assert "Commands:" in done.stderr


def answers(places: Places) -> bool:
    """Whether a daemon is there."""
    client = find_daemon(places)
    if client is not None:
        client.close()
    return client is not None


def read_until(end: int, sign: bytes) -> bytes:
    """What the app writes until a sign, or its end."""
    seen = b""
    begin_s = time.monotonic()
    while sign not in seen:
        assert time.monotonic() - begin_s < 120, f"no {sign!r} in {seen[-400:]!r}"
        seen += os.read(end, 1 << 16)
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("term", ["xterm-256color", "linux"])
def test_in_a_terminal_it_opens_the_app_starts_the_daemon_and_leaves_it_running(term: str, tmp_path: Path) -> None:
    with daemon_places() as places:
        environment = {**os.environ, "TERM": term, "LANG": "C.UTF-8", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
        process, end = pty.fork()
        if process == 0:
            os.chdir(tmp_path)
            os.execve(sys.executable, [sys.executable, "-m", "edgeprune"], environment)
        fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        seen = read_until(end, b"Validate")
        wait_for(lambda: answers(places), "the daemon answers")
        seen += read_until(end, b"free of")
        if term == "linux":
            assert "⣀".encode() not in seen
            assert "╭".encode() not in seen
        os.write(end, b"\x11")
        try:
            while os.read(end, 1 << 16):
                pass
        except OSError:  # closed by the app's end
            pass
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
        os.close(end)
        assert answers(places)
