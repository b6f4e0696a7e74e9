import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeprune.errors import CalibrationError, DeviceError, ProtocolError, UsageError
from edgeprune.runtime.executor import Executor, open_executor
from edgeprune.runtime.executor.cluster import ClusterExecutor
from tests.local_cluster import LocalCluster, local_cluster
from tests.unit.runtime.executor.conftest import pids_in, wait_until

pytest.importorskip("distributed", reason="the extra `cluster` is not installed")


@pytest.fixture
def cluster(task_folder: Path, tmp_path: Path) -> Iterator[LocalCluster]:
    """Two workers whose own list allows the tests' tasks."""
    with local_cluster(tmp_path / "dask", preload=task_folder / "test_allow.py") as found:
        yield found


@pytest.fixture
def executor(cluster: LocalCluster) -> Iterator[Executor]:
    opened = open_executor(cluster=cluster.address)
    yield opened
    opened.close()


def test_every_payload_comes_back_with_its_index(executor: Executor, tmp_path: Path) -> None:
    payloads = [b"one", b"", bytes(range(256)) * 1024]
    assert executor.worker_count >= 1
    assert sorted(executor.run("test_tasks:reverse", payloads)) == [(i, p[::-1]) for i, p in enumerate(payloads)]
    assert list(executor.run("test_tasks:reverse", [])) == []
    with pytest.raises(CalibrationError, match=r"^too little text; give more\.$"):
        list(executor.run("test_tasks:refuse", [b"", b""]))
    with pytest.raises(DeviceError, match="ZeroDivisionError: integer"):
        list(executor.run("test_tasks:divide", [b"0"]))
    with pytest.raises(UsageError, match="is not a function that workers run"):
        list(executor.run("os:system", [b"true"]))


def test_a_killed_worker_costs_the_task_it_held_and_no_other(
    cluster: LocalCluster, executor: Executor, tmp_path: Path
) -> None:
    payloads = [str(tmp_path / f"task-{number}").encode() for number in range(4)]
    for path in payloads[1:]:
        Path(path.decode()).write_text("1", encoding="ascii")  # only the first waits
    held = tmp_path / "task-0"
    results: list[tuple[int, bytes]] = []
    thread = threading.Thread(target=lambda: results.extend(executor.run("test_tasks:lose", payloads)))
    thread.start()
    # The other worker has done all the rest, and the caller holds it, when the one with the first task is killed.
    wait_until(lambda: len(pids_in(held)) == 1 and len(results) == 3, what="everything but the first task")
    assert pids_in(held)[0] in [worker.pid for worker in cluster.workers]
    os.kill(pids_in(held)[0], signal.SIGKILL)
    thread.join(60.0)
    assert sorted(results) == [(index, b"done") for index in range(4)]
    tries = [len(pids_in(tmp_path / f"task-{number}")) for number in range(4)]
    assert tries == [2, 2, 2, 2], "a note before and one try each, but two for the task that was lost"


def test_a_cluster_that_is_lost_is_an_error_and_no_wait_for_ever(
    cluster: LocalCluster, executor: Executor, tmp_path: Path
) -> None:
    held = tmp_path / "always"

    def end_when_started() -> None:
        wait_until(lambda: len(pids_in(held)) == 1, what="the task to start")
        cluster.scheduler.kill()

    ender = threading.Thread(target=end_when_started)
    ender.start()
    with pytest.raises(ProtocolError, match="was lost"):
        list(executor.run("test_tasks:lose", [str(held).encode()]))
    ender.join()


def test_nobody_at_the_address_is_an_unreachable_cluster() -> None:
    with socket.socket() as taken:  # bound but not listening: refused at once, and nobody else can take the port
        taken.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ProtocolError, match=rf"'{address}' cannot be reached .* check --cluster") as caught:
            ClusterExecutor(address, timeout_s=1.0)
    assert caught.value.exit_code == 5


@pytest.mark.parametrize("address", ["", "nonsense", "http://127.0.0.1:1", "tls://127.0.0.1:1", "127.0.0.1:99999"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ProtocolError, match="cannot be reached"):
        ClusterExecutor(address, timeout_s=0.5)


def test_a_cluster_without_workers_is_refused(tmp_path: Path) -> None:
    with (
        local_cluster(tmp_path / "dask", worker_count=0) as empty,
        pytest.raises(ProtocolError, match="has no workers"),
    ):
        ClusterExecutor(empty.address, timeout_s=0.5)
