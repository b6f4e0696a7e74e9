import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeprune.errors import DeviceError, ModelError
from edgeprune.runtime.isolate import run_isolated

Child = Callable[[str], str]


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Child:
    """Make the body of `handle(request)` a module that a fresh process finds."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def make(body: str) -> str:
        lines = "".join(f"    {line}\n" for line in body.splitlines())
        text = f"from edgeprune.runtime.isolate import answer\ndef handle(request):\n{lines}answer(handle)\n"
        (tmp_path / "measured_child.py").write_text(text, encoding="utf-8")
        return "measured_child"

    return make


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_for(path: Path) -> int:
    deadline_s = time.monotonic() + 10.0
    while time.monotonic() < deadline_s:
        if path.is_file() and path.read_text(encoding="ascii"):
            return int(path.read_text(encoding="ascii"))
        time.sleep(0.01)
    pytest.fail("the child did not start")


def test_the_answer_comes_back_whole_whatever_libraries_print(child: Child) -> None:
    module = child("import os\nprint('noise')\nos.write(1, b'native noise')\nreturn request[::-1] * 100000")
    assert run_isolated(module, b"abc", timeout_s=30.0) == b"cba" * 100000


def test_threads_are_set_for_the_child_only(child: Child) -> None:
    module = child("import os\nreturn os.environ['OMP_NUM_THREADS'].encode()")
    before = os.environ.get("OMP_NUM_THREADS")
    assert run_isolated(module, b"", timeout_s=30.0, thread_count=7) == b"7"
    assert os.environ.get("OMP_NUM_THREADS") == before


def test_a_model_at_fault_stays_a_model_error(child: Child) -> None:
    module = child("from edgeprune.errors import ModelError\nraise ModelError('the graph is broken; export again.')")
    with pytest.raises(ModelError, match=r"^the graph is broken; export again\.$"):
        run_isolated(module, b"", timeout_s=30.0)


def test_an_unexpected_failure_gives_its_last_line(child: Child) -> None:
    with pytest.raises(DeviceError, match="exit code 1: ValueError: seven is not a number"):
        run_isolated(child("raise ValueError('seven is not\\na number')"), b"", timeout_s=30.0)


@pytest.mark.parametrize("body", ["raise MemoryError", "import os\nos.kill(os.getpid(), 9)"])
def test_running_out_of_memory_is_said(child: Child, body: str) -> None:
    with pytest.raises(DeviceError, match="ran out of memory"):
        run_isolated(child(body), b"", timeout_s=30.0)


def test_another_signal_is_named(child: Child) -> None:
    with pytest.raises(DeviceError, match="SIGSEGV"):
        run_isolated(child("import os\nos.kill(os.getpid(), 11)"), b"", timeout_s=30.0)


def test_a_slow_child_and_its_own_children_are_ended(child: Child, tmp_path: Path) -> None:
    noted = tmp_path / "grandchild"
    body = (
        f"import subprocess, time\np = subprocess.Popen(['sleep', '60'])\nopen({str(noted)!r}, 'w').write(str(p.pid))"
    )
    with pytest.raises(DeviceError, match="took longer than 1 s"):
        run_isolated(child(body + "\ntime.sleep(60)"), b"", timeout_s=1.0)
    pid = wait_for(noted)
    deadline_s = time.monotonic() + 5.0
    while is_alive(pid) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert not is_alive(pid)


def test_an_interruption_ends_the_child(child: Child, tmp_path: Path) -> None:
    noted = tmp_path / "pid"
    body = f"import os, time\nopen({str(noted)!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)"

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 1.0)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_isolated(child(body), b"", timeout_s=30.0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
    assert not is_alive(wait_for(noted))
