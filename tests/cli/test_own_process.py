"""A verb's work in a child: what a user sees of signals and of memory that ran out."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.cli.daemon_process import is_alive, wait_for

WORK = """
import os, signal, sys, time
import edgeprune.cli.main
from edgeprune.cli import diagnostics
from edgeprune.jobs.own_process import run_in_child

def work():
    print(os.getpid(), flush=True)
    {body}
    return 3

signal.signal(signal.SIGTERM, sys.modules["edgeprune.cli.main"]._terminate)
def guarded():
    try:
        return work()
    except KeyboardInterrupt:
        time.sleep(0.2)
        print("tidied up", flush=True)
        return 130
code = run_in_child(guarded)
sys.exit(code if code >= 0 else int(diagnostics.explain_signal(-code)))
"""


def start(body: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", WORK.format(body=body)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def first_line(process: "subprocess.Popen[str]") -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


def test_the_exit_code_is_the_works() -> None:
    process = start("pass")
    worker = first_line(process)
    assert worker != process.pid
    process.communicate(timeout=60)
    assert process.returncode == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_command_reaches_the_work_once(number: int) -> None:
    process = start("time.sleep(600)")
    first_line(process)
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert (out, process.returncode) == ("tidied up\n", 130)


def test_work_that_was_killed_is_told() -> None:
    process = start("time.sleep(600)")
    os.kill(first_line(process), signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 4
    assert "ended by SIGKILL, most likely because memory ran out; finished stages are kept" in err


def test_the_work_dies_with_the_command() -> None:
    process = start("time.sleep(600)")
    worker = first_line(process)
    process.kill()
    process.communicate(timeout=60)
    wait_for(lambda: not is_alive(worker), "the work is gone")


def test_a_terminals_ctrl_c_is_one_interruption(tmp_path: Path) -> None:
    """The terminal signals the whole group; the command must not pass on what the work has got already."""
    master, slave = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", "import fcntl, os, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
         + WORK.format(body="time.sleep(600)")],
        stdin=slave, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    first_line(process)
    os.write(master, b"\x03")
    out, err = process.communicate(timeout=60)
    os.close(master)
    assert (out, process.returncode, err) == ("tidied up\n", 130, "")


def test_a_verb_works_in_a_child_and_a_front_verb_does_not() -> None:
    before = set(psutil.Process().children())  # such as a resource tracker of an earlier test
    done = subprocess.run([sys.executable, "-m", "edgeprune", "doctor", "--json"], capture_output=True, text=True)
    assert done.returncode in (0, 4)
    assert done.stdout.startswith("{")
    assert set(psutil.Process().children()) <= before
