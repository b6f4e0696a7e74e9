"""Tasks that only tests need, in a worker whose own list allows them."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgeprune.runtime.executor import tasks
from edgeprune.runtime.executor.processes import ProcessExecutor

TASKS_MODULE = '''
import os, subprocess, sys, time
from pathlib import Path
from edgeprune.errors import CalibrationError

def reverse(payload):
    return payload[::-1]

def noisy(payload):
    print("printed")
    os.write(1, b"native noise")
    assert sys.stdin.read() == ""
    return payload * 100000

def sleep(payload):
    time.sleep(float(payload))
    return payload

def environment(payload):
    return os.environ[payload.decode()].encode()

def process(payload):
    return str(os.getpid()).encode()

def refuse(payload):
    raise CalibrationError("too little text; give more.")

def divide(payload):
    return str(1 // int(payload)).encode()

def hoard(payload):
    raise MemoryError

def miss(payload):
    import a_package_that_nobody_has

def lose(payload):
    """Note this process, then wait; the second and later tries answer at once when the payload's file says so."""
    pids = Path(payload.decode())
    before = pids.read_text().split() if pids.exists() else []
    pids.write_text(" ".join([*before, str(os.getpid())]))
    if not before or pids.name.startswith("always"):
        time.sleep(60)
    return b"done"

def leave(payload):
    sys.stderr.write("the disk is on fire\\n")
    os._exit(7)

def family(payload):
    child = subprocess.Popen(["sleep", "60"])
    Path(payload.decode()).write_text(str(child.pid))
    time.sleep(60)
'''

NAMES = (
    "reverse", "noisy", "sleep", "environment", "process", "refuse", "divide", "hoard", "miss", "lose", "leave",
    "family",
)  # fmt: skip
ALLOW = (
    f'from edgeprune.runtime.executor import tasks\ntasks.TASKS |= {{f"test_tasks:{{name}}" for name in {NAMES!r}}}\n'
)
CHILD = ALLOW + "from edgeprune.runtime.executor.child import serve\nserve()\n"


@pytest.fixture
def task_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on every child's path: `test_tasks`, `test_child` that allows them, `test_allow` for a Dask preload."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "test_tasks.py").write_text(TASKS_MODULE, encoding="utf-8")
    (folder / "test_child.py").write_text(CHILD, encoding="utf-8")
    (folder / "test_allow.py").write_text(ALLOW, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(tasks, "TASKS", tasks.TASKS | {f"test_tasks:{name}" for name in NAMES})
    return folder


Open = Callable[..., ProcessExecutor]


@pytest.fixture
def processes(task_folder: Path) -> Iterator[Open]:
    opened: list[ProcessExecutor] = []

    def start(worker_count: int = 2, *, thread_count: int | None = 1) -> ProcessExecutor:
        opened.append(ProcessExecutor(worker_count, thread_count=thread_count, child_module="test_child"))
        return opened[-1]

    yield start
    for executor in opened:
        executor.close()


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until(is_true: Callable[[], bool], *, what: str) -> None:
    """A generous deadline for something that happens in another process; it decides nothing but a hang."""
    deadline_s = time.monotonic() + 30.0
    while not is_true():
        if time.monotonic() > deadline_s:
            pytest.fail(f"waited in vain: {what}")
        time.sleep(0.01)


def pids_in(path: Path) -> list[int]:
    return [int(word) for word in path.read_text(encoding="ascii").split()] if path.exists() else []
