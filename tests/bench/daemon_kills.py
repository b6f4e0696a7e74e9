"""SIGKILL to the daemon or to the job's process, again and again, over a search: what is lost?

    python -m tests.bench.daemon_kills [--kills 50] [--seed 0]

A tiny model's run is searched, building 8 recipes, once undisturbed and then killed at random moments: in turn the
daemon, the job's process, and both. After each kill the daemon is started when it is gone, and the job resumed. When a
search ends before all kills are done, the next one begins in a fresh copy of the run. Told: whether every search ended
with the bytes of the undisturbed recipe and residuals, and whether the events have a gap or a duplicate. Prints a table
and writes `results/daemon_kills.json`. Needs torch.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import msgspec

from edgeprune.jobs.client import DaemonClient, connect
from edgeprune.jobs.places import Places
from edgeprune.schema.events import Event
from edgeprune.schema.jobs import Job, SearchJob
from tests.cli.daemon_process import check_history, daemon_places, is_alive, kill_daemon, wait_for
from tests.unit.pipeline.killed import EVALUATIONS, prepare

RESULTS = Path(__file__).parent / "results"
SAME = ("recipe.toml", "residuals.json")


@dataclass
class Row:
    kill_count: int
    hits: dict[str, int] = field(default_factory=lambda: {"daemon": 0, "child": 0, "both": 0, "nobody": 0})
    """What a kill met; `nobody`: no process of the job was there at that moment."""
    search_count: int = 0
    finished_count: int = 0
    same_count: int = 0
    """Searches that left the undisturbed bytes."""
    resume_count: int = 0
    event_count: int = 0
    gaps: list[str] = field(default_factory=list)
    repeated_evaluations: int = 0
    """Files of evaluations that were whole before a kill and were written again."""
    undisturbed_s: float = 0.0
    took_s: float = 0.0


def measure(places: Places, *, kills: int, seed: int, root: Path) -> Row:
    """Search undisturbed, then with so many kills, then to the end."""
    calibrated = prepare(root).root
    started = time.perf_counter()
    row = Row(kill_count=kills)
    client = connect(places=places)
    job = _search(client, _copy(calibrated, root / "undisturbed"))
    list(client.events(job.id))
    assert client.job(job.id).state == "succeeded", client.job(job.id).error
    row.undisturbed_s = time.perf_counter() - started
    wanted = [(root / "undisturbed" / name).read_bytes() for name in SAME]
    rng = random.Random(seed)
    given = 0
    while given < kills:
        row.search_count += 1
        run = _copy(calibrated, root / f"killed-{row.search_count}")
        job = _search(client, run)
        while given < kills and not client.job(job.id).is_over:
            client = _one_kill(places, client, job, row, run, rng)
            given += 1
        list(client.events(job.id))
        found = client.job(job.id)
        row.finished_count += found.state == "succeeded"
        row.same_count += [(run / name).read_bytes() for name in SAME] == wanted
        _check_events(client, places, found, run, row)
    client.close()
    row.took_s = time.perf_counter() - started
    return row


def _copy(calibrated: Path, path: Path) -> Path:
    return Path(shutil.copytree(calibrated, path))


def _search(client: DaemonClient, run: Path) -> Job:
    return client.submit(SearchJob(run=str(run), evaluations=EVALUATIONS))


def _one_kill(places: Places, client: DaemonClient, job: Job, row: Row, run: Path, rng: random.Random) -> DaemonClient:
    """Wait for a random moment, kill, bring everything back to work; the client to go on with."""
    whom = ("daemon", "child", "both")[sum(row.hits.values()) % 3]
    before = _evaluations(run)
    time.sleep(rng.uniform(0.0, 0.6 * row.undisturbed_s))
    child = _child(places, job)
    row.hits[whom if child is not None else "nobody"] += 1
    if child is not None and whom != "daemon":
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    if whom != "child":
        client.close()
        kill_daemon(places)
        if child is not None:
            wait_for(lambda: not is_alive(child), "the child dies with the daemon")
        client = connect(places=places)
    elif child is not None:
        wait_for(lambda: client.job(job.id).is_over, "the queue has seen its child die")
    after = _evaluations(run)
    row.repeated_evaluations += sum(after.get(name) != state for name, state in before.items())
    if client.job(job.id).state == "interrupted":
        client.resume(job.id)
        row.resume_count += 1
    return client


def _child(places: Places, job: Job) -> int | None:
    """The process that works on a job; None when none does."""
    with contextlib.suppress(OSError, ValueError):
        pid = int((places.jobs / job.id / "lock").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        if job.id.encode() in command and is_alive(pid):
            return pid
    return None


def _evaluations(run: Path) -> dict[str, tuple[int, int]]:
    """Whole files of evaluations -> what changes when one is written again."""
    return {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in (run / "evaluations").glob("[!.]*.json")
    }


def _check_events(client: DaemonClient, places: Places, job: Job, run: Path, row: Row) -> None:
    """The journal against the job's file, and the job's file against the run's `events.jsonl`."""
    try:
        history = check_history(client, places, job)
    except AssertionError as error:
        row.gaps.append(f"{job.id}: {str(error)[:300]}")
        return
    row.event_count += len(history)
    told = [entry.event for entry in history if isinstance(entry.event, Event) and entry.event.stage != "job"]
    stamps = [(event.time_s, event.kind, event.stage, event.message) for event in told]
    if len(set(stamps)) != len(stamps):
        row.gaps.append(f"{job.id}: an event is there twice")
    written = [msgspec.json.decode(line, type=Event) for line in (run / "events.jsonl").read_bytes().splitlines()]
    rest = iter(written)
    if not all(event in rest for event in told):
        row.gaps.append(f"{job.id}: the run's events.jsonl lacks events that were told")
    # The run's file is written first: a kill between the two leaves one event there that nobody was told.
    if len(written) - len(told) > sum(row.hits.values()):
        row.gaps.append(f"{job.id}: {len(written)} events written, {len(told)} told")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with daemon_places() as places, tempfile.TemporaryDirectory() as folder:
        row = measure(places, kills=arguments.kills, seed=arguments.seed, root=Path(folder).resolve())
    print("kills  daemon  child  both  nobody  searches  finished  same bytes  resumed  events  gaps  repeated")
    print(
        f"{row.kill_count:5}  {row.hits['daemon']:6}  {row.hits['child']:5}  {row.hits['both']:4}  "
        f"{row.hits['nobody']:6}  {row.search_count:8}  {row.finished_count:8}  {row.same_count:10}  "
        f"{row.resume_count:7}  {row.event_count:6}  {len(row.gaps):4}  {row.repeated_evaluations:8}"
    )
    for text in row.gaps:
        print("gap:", text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "daemon_kills.json").write_text(json.dumps(asdict(row), indent=2) + "\n")
    is_good = row.finished_count == row.same_count == row.search_count and not row.gaps
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
