"""Many clients at once: does every job end, is the order kept, and what memory does the daemon take?

    python -m tests.bench.daemon_queue [--clients 8] [--jobs 25]

Each client submits its jobs as fast as it can and cancels every tenth at once. The work is a search of a folder that is
no run, which ends after the imports; so the queue is what is measured. Prints a table and writes
`results/daemon_queue.json`.
"""

import argparse
import json
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from edgeprune.jobs.client import DaemonClient, connect
from edgeprune.jobs.places import Places
from edgeprune.schema.jobs import Job, SearchJob
from tests.cli.daemon_process import check_history, daemon_places, wait_for

RESULTS = Path(__file__).parent / "results"


@dataclass
class Row:
    client_count: int
    job_count: int
    final_count: int
    cancelled_count: int
    is_order_kept: bool
    """Jobs started in the order they were queued."""
    submit_p50_s: float
    submit_max_s: float
    rss_before_bytes: int
    rss_peak_bytes: int
    """VmHWM when all jobs were over."""
    took_s: float


def measure(places: Places, *, clients: int, jobs_each: int, folder: Path) -> Row:
    """Submit from so many threads, each with a connection of its own, and wait until all jobs are over."""
    watching = connect(places=places)
    before = watching.status()
    started = time.perf_counter()
    waits: list[float] = []
    failures: list[BaseException] = []

    def work(name: int) -> None:
        mine = DaemonClient(places.socket)
        try:
            for number in range(jobs_each):
                asked = time.perf_counter()
                job = mine.submit(SearchJob(run=str(folder / f"client-{name}-{number}")))
                waits.append(time.perf_counter() - asked)
                if number % 10 == 9:
                    mine.cancel(job.id)
        except BaseException as error:
            failures.append(error)
        finally:
            mine.close()

    threads = [threading.Thread(target=work, args=(name,)) for name in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    wait_for(lambda: all(job.is_over for job in watching.jobs()), "all jobs are over", timeout_s=3600)
    jobs = watching.jobs()
    for job in jobs:
        check_history(watching, places, job)
    ran = sorted((job for job in jobs if job.started_s is not None), key=lambda job: job.started_s or 0.0)
    row = Row(
        client_count=clients,
        job_count=len(jobs),
        final_count=sum(job.state in Job.FINAL for job in jobs),
        cancelled_count=sum(job.state == "cancelled" for job in jobs),
        is_order_kept=[job.id for job in ran] == sorted(job.id for job in ran),
        submit_p50_s=sorted(waits)[len(waits) // 2],
        submit_max_s=max(waits),
        rss_before_bytes=before.rss_bytes or 0,
        rss_peak_bytes=_peak(before.pid),
        took_s=time.perf_counter() - started,
    )
    watching.close()
    return row


def _peak(pid: int) -> int:
    from edgeprune.runtime.memory import parse_status

    return parse_status(Path(f"/proc/{pid}/status").read_text()).peak_rss_bytes or 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=25, help="of each client")
    arguments = parser.parse_args()
    with daemon_places() as places, tempfile.TemporaryDirectory() as folder:
        row = measure(places, clients=arguments.clients, jobs_each=arguments.jobs, folder=Path(folder))
    print("clients  jobs  final  cancelled  order kept  submit p50  submit max  RSS before  RSS peak   took")
    print(
        f"{row.client_count:7}  {row.job_count:4}  {row.final_count:5}  {row.cancelled_count:9}  "
        f"{row.is_order_kept!s:>10}  {row.submit_p50_s * 1e3:7.1f} ms  {row.submit_max_s * 1e3:7.1f} ms  "
        f"{row.rss_before_bytes / 1e6:7.1f} MB  {row.rss_peak_bytes / 1e6:5.1f} MB  {row.took_s:5.0f} s"
    )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "daemon_queue.json").write_text(json.dumps(asdict(row), indent=2) + "\n")


if __name__ == "__main__":
    main()
