"""A Dask cluster on loopback, made of processes: a scheduler and workers of one thread each."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeprune.runtime.isolate import child_environment

__all__ = ["LocalCluster", "local_cluster"]


@dataclass(frozen=True)
class LocalCluster:
    address: str
    workers: tuple["subprocess.Popen[bytes]", ...]
    scheduler: "subprocess.Popen[bytes]"


@contextlib.contextmanager
def local_cluster(folder: Path, *, worker_count: int = 2, preload: Path | None = None) -> Iterator[LocalCluster]:
    """Start a scheduler on a free port and its workers; all end with the block.

    Args:
        folder: where Dask keeps its files.
        worker_count: workers, each a process with one thread.
        preload: a script that each worker runs before it works.
    """
    folder.mkdir(parents=True, exist_ok=True)
    environment = child_environment(1)
    found = folder / "scheduler.json"
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> "subprocess.Popen[bytes]":
        with (folder / f"log-{len(started)}").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *arguments, "--scheduler-file", str(found), "--no-dashboard"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=folder,
            )
        started.append(process)
        return process

    try:
        scheduler = start("scheduler", "--host", "127.0.0.1", "--port", "0")
        loading = [] if preload is None else ["--preload", str(preload)]
        options = ["--no-nanny", "--nthreads", "1", "--host", "127.0.0.1", "--local-directory", str(folder), *loading]
        workers = tuple(start("worker", *options) for _ in range(worker_count))
        yield LocalCluster(address=_address(found, scheduler), workers=workers, scheduler=scheduler)
    finally:
        for process in reversed(started):
            process.kill()
            process.wait()


def _address(found: Path, scheduler: "subprocess.Popen[bytes]") -> str:
    deadline_s = time.monotonic() + 60.0
    while time.monotonic() < deadline_s:
        with contextlib.suppress(OSError, json.JSONDecodeError):
            return str(json.loads(found.read_text(encoding="utf-8"))["address"])
        if scheduler.poll() is not None:
            break
        time.sleep(0.05)
    raise AssertionError(f"the scheduler did not start: {(found.parent / 'log-0').read_text()[-2000:]}")
