"""What the daemon takes while nothing is to be done, and while somebody follows a job that is silent.

    python -m tests.bench.daemon_idle [--seconds 60]

Prints a table and writes `results/daemon_idle.json`: resident memory (limit 45 MB), processor time as a share of one
core (limit 0.5 %), and how often it woke.
"""

import argparse
import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from edgeprune.errors import EdgePruneError
from edgeprune.jobs.client import DaemonClient, connect
from edgeprune.jobs.places import Places
from edgeprune.schema.jobs import DoctorJob, ProfileJob
from tests.cli.daemon_process import daemon_places

RESULTS = Path(__file__).parent / "results"
MEMORY_BYTES, CORE_SHARE = 45_000_000, 0.005


@dataclass
class Row:
    case: str
    rss_bytes: int
    core_share: float
    wakes_per_s: float
    thread_count: int


def measure(pid: int, case: str, seconds: float) -> Row:
    """Look at a process at the beginning and the end of some seconds."""
    before = _used(pid), _wakes(pid)
    time.sleep(seconds)
    after = _used(pid), _wakes(pid)
    status = _status(pid)
    return Row(
        case=case,
        rss_bytes=int(status["VmRSS"].split()[0]) * 1024,
        core_share=(after[0] - before[0]) / seconds,
        wakes_per_s=(after[1] - before[1]) / seconds,
        thread_count=int(status["Threads"]),
    )


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def _used(pid: int) -> float:
    """Processor seconds so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _wakes(pid: int) -> int:
    """Times a thread went to sleep so far, over all threads."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            text = (task / "status").read_text()
            total += int(text.partition("voluntary_ctxt_switches:")[2].split()[0])
    return total


@contextlib.contextmanager
def _stopped_job(client: DaemonClient, places: Places) -> Iterator[None]:
    """A job that is followed by eight clients and tells nothing, because its process is stopped."""
    job = client.submit(ProfileJob())
    while client.job(job.id).stage is None:
        time.sleep(0.1)
    child = int((places.jobs / job.id / "lock").read_text())
    os.kill(child, 19)
    followers = [DaemonClient(places.socket) for _ in range(8)]

    def follow(one: DaemonClient) -> None:
        with contextlib.suppress(EdgePruneError):
            list(one.events(job.id))

    threads = [threading.Thread(target=follow, args=(one,), daemon=True) for one in followers]
    for thread in threads:
        thread.start()
    time.sleep(1.0)
    yield
    os.kill(child, 18)
    client.cancel(job.id)
    for thread, one in zip(threads, followers, strict=True):
        thread.join()
        one.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    arguments = parser.parse_args()
    rows = []
    with daemon_places() as places:
        client = connect(places=places)
        pid = client.status().pid
        rows.append(measure(pid, "just started", arguments.seconds))
        for _ in range(10):
            list(client.events(client.submit(DoctorJob()).id))
        rows.append(measure(pid, "after 10 jobs", arguments.seconds))
        with _stopped_job(client, places):
            rows.append(measure(pid, "8 clients follow a silent job", arguments.seconds))
        client.close()
    print("case                           RSS        core     wakes/s  threads")
    for row in rows:
        print(
            f"{row.case:<29}  {row.rss_bytes / 1e6:5.1f} MB  {row.core_share:7.3%}  {row.wakes_per_s:7.2f}  "
            f"{row.thread_count:7}"
        )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "daemon_idle.json").write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    return 0 if all(row.rss_bytes < MEMORY_BYTES and row.core_share < CORE_SHARE for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
