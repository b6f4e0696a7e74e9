import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edgeprune.errors import CalibrationError, DeviceError, UsageError
from edgeprune.runtime.executor.inline import InlineExecutor
from edgeprune.runtime.executor.processes import ProcessExecutor
from tests.unit.runtime.executor.conftest import Open, is_alive, pids_in, wait_until

PAYLOADS = [b"one", b"two", b"", bytes(range(256)) * 4096]


@pytest.mark.parametrize("place", ["inline", "processes"])
def test_every_payload_comes_back_with_its_index(place: str, processes: Open) -> None:
    executor = InlineExecutor() if place == "inline" else processes(3)
    results = dict(executor.run("test_tasks:reverse", PAYLOADS))
    assert results == {index: payload[::-1] for index, payload in enumerate(PAYLOADS)}
    assert list(executor.run("test_tasks:reverse", [])) == []


def test_a_slow_task_does_not_hold_back_a_quick_one(processes: Open, tmp_path: Path) -> None:
    # The first task waits until it is ended, so a result can only be the second task's.
    results = processes(2).run(
        "test_tasks:lose", [str(tmp_path / "always").encode(), str(_answered(tmp_path)).encode()]
    )
    assert next(results) == (1, b"done")
    results.close()


def _answered(tmp_path: Path) -> Path:
    path = tmp_path / "answered"
    path.write_text("1", encoding="ascii")
    return path


def test_workers_stay_for_the_next_run(processes: Open) -> None:
    executor = processes(1)
    first = [pid for _, pid in executor.run("test_tasks:process", [b""] * 3)]
    second = [pid for _, pid in executor.run("test_tasks:process", [b""])]
    assert len({*first, *second}) == 1


def test_what_tasks_print_or_read_stays_out_of_the_replies(processes: Open) -> None:
    assert list(processes(1).run("test_tasks:noisy", [b"abc", b"d"])) == [(0, b"abc" * 100000), (1, b"d" * 100000)]


def test_threads_are_set_for_the_workers_only(processes: Open) -> None:
    before = os.environ.get("OMP_NUM_THREADS")
    names = [b"OMP_NUM_THREADS", b"OPENBLAS_NUM_THREADS", b"MKL_NUM_THREADS"]
    assert [value for _, value in processes(1, thread_count=7).run("test_tasks:environment", names)] == [b"7"] * 3
    assert os.environ.get("OMP_NUM_THREADS") == before


@pytest.mark.parametrize("place", ["inline", "processes"])
def test_an_error_of_ours_comes_back_with_class_and_message(place: str, processes: Open) -> None:
    executor = InlineExecutor() if place == "inline" else processes(2)
    with pytest.raises(CalibrationError, match=r"^too little text; give more\.$") as caught:
        list(executor.run("test_tasks:refuse", [b"", b"", b""]))
    assert caught.value.exit_code == 2
    assert list(executor.run("test_tasks:reverse", [b"ab"])) == [(0, b"ba")], "and the executor goes on working"


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("divide", "ZeroDivisionError: integer"),
        ("hoard", "ran out of memory"),
        ("miss", "a_package_that_nobody_has is not installed"),
    ],
)
def test_other_failures_are_said_in_a_sentence(task: str, said: str, processes: Open) -> None:
    with pytest.raises(DeviceError, match=said):
        list(processes(1).run(f"test_tasks:{task}", [b"0"]))


def test_the_worker_itself_refuses_what_its_list_does_not_allow(task_folder: Path) -> None:
    # The real child: this process's list allows the function, the worker's does not.
    executor = ProcessExecutor(1)
    try:
        with pytest.raises(UsageError, match="is not a function that workers run"):
            list(executor.run("test_tasks:reverse", [b"ab"]))
    finally:
        executor.close()


def test_a_killed_worker_costs_the_task_it_held_and_no_other(processes: Open, tmp_path: Path) -> None:
    executor = processes(2)
    payloads = [str(tmp_path / f"task-{number}").encode() for number in range(4)]
    for path in payloads[1:]:
        Path(path.decode()).write_text("1", encoding="ascii")  # only the first waits
    held = tmp_path / "task-0"
    results: list[tuple[int, bytes]] = []
    thread = threading.Thread(target=lambda: results.extend(executor.run("test_tasks:lose", payloads)))
    thread.start()
    wait_until(lambda: len(pids_in(held)) == 1, what="the first task to start")
    os.kill(pids_in(held)[0], signal.SIGKILL)
    thread.join(30.0)
    assert sorted(results) == [(index, b"done") for index in range(4)]
    tries = [len(pids_in(tmp_path / f"task-{number}")) for number in range(4)]
    assert tries == [2, 2, 2, 2], "a note before and one try each, but two for the task that was lost"
    assert not is_alive(pids_in(held)[0])


def test_workers_that_died_while_they_rested_are_no_fault_of_the_task(processes: Open) -> None:
    executor = processes(3)
    wanted = 0
    while len(executor.worker_pids) < 3:  # a quick worker may have taken two tasks
        list(executor.run("test_tasks:process", [b""] * 12))
        wanted += 1
        if wanted > 20:
            pytest.skip("one worker does everything here")
    for pid in executor.worker_pids:
        os.kill(pid, signal.SIGKILL)
    assert dict(executor.run("test_tasks:reverse", PAYLOADS)) == {
        index: payload[::-1] for index, payload in enumerate(PAYLOADS)
    }


def test_a_task_that_ends_its_worker_twice_is_given_up(processes: Open) -> None:
    with pytest.raises(DeviceError, match=r"Task 1 of 1 .* twice \(exit code 7, its last line: the disk is on fire\)"):
        list(processes(2).run("test_tasks:leave", [b""]))


def test_a_child_that_cannot_start_is_said(task_folder: Path) -> None:
    (task_folder / "broken_child.py").write_text("import a_package_that_nobody_has\n", encoding="utf-8")
    executor = ProcessExecutor(2, child_module="broken_child")
    try:
        with pytest.raises(DeviceError, match="No module named 'a_package_that_nobody_has'"):
            list(executor.run("test_tasks:reverse", [b"a", b"b"]))
        assert executor.worker_pids == ()
    finally:
        executor.close()


def interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def test_an_interruption_ends_the_workers_and_their_children(processes: Open, tmp_path: Path) -> None:
    executor = processes(1)
    noted = tmp_path / "grandchild"
    before = signal.signal(signal.SIGUSR1, interrupt)
    main = threading.get_ident()

    def press_when_started() -> None:
        wait_until(lambda: len(pids_in(noted)) == 1, what="the task to start")
        signal.pthread_kill(main, signal.SIGUSR1)

    presser = threading.Thread(target=press_when_started)
    presser.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            list(executor.run("test_tasks:family", [str(noted).encode()]))
    finally:
        presser.join()
        signal.signal(signal.SIGUSR1, before)
    wait_until(lambda: not is_alive(pids_in(noted)[0]), what="the grandchild to end")
    assert executor.worker_pids == ()


def test_workers_end_when_their_parent_is_killed(task_folder: Path, tmp_path: Path) -> None:
    noted = tmp_path / "always"
    code = (
        "from edgeprune.runtime.executor.processes import ProcessExecutor\n"
        f"list(ProcessExecutor(1, child_module='test_child').run('test_tasks:lose', [{str(noted).encode()!r}]))\n"
    )
    root = Path(__file__).resolve().parents[4]
    environment = dict(os.environ, PYTHONPATH=f"{task_folder}{os.pathsep}{root}")
    with subprocess.Popen([sys.executable, "-c", code], env=environment, cwd=root) as parent:
        wait_until(lambda: len(pids_in(noted)) == 1, what="the task to start")
        parent.kill()
    wait_until(lambda: not is_alive(pids_in(noted)[0]), what="the orphan to end")
