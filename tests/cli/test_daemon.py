"""The daemon in real processes: its life, its refusals, and the verbs in front of it."""

import contextlib
import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from edgeprune.errors import DeviceError, ProtocolError, UsageError
from edgeprune.jobs.client import DaemonClient, connect, find_daemon
from edgeprune.jobs.places import RUNTIME_VARIABLE, Places
from edgeprune.jobs.store import JOURNAL_VERSION
from edgeprune.schema.events import Event
from edgeprune.schema.jobs import DemoJob, DoctorJob, ProfileJob, SearchJob, StateChange
from tests.cli.conftest import Cli
from tests.cli.daemon_process import check_history, daemon_places, is_alive, kill_daemon, wait_for

pytestmark = pytest.mark.slow

IDLE_BYTES = 45_000_000

QUICK = DemoJob(validates=False)
"""Waits for other work, unlike what only answers a question, and is done in a second or two."""


@pytest.fixture
def places() -> Iterator[Places]:
    with daemon_places() as made:
        yield made


@pytest.fixture
def client(places: Places) -> Iterator[DaemonClient]:
    made = connect(places=places)
    yield made
    made.close()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def run_second(places: Places, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgeprune.jobs.daemon"],
        capture_output=True,
        text=True,
        timeout=60,
        env=dict(os.environ) | variables,
    )


def test_a_daemon_starts_answers_and_stops(cli: Cli, places: Places) -> None:
    assert cli("daemon", "status").code == 1
    assert cli("daemon", "start").out.startswith("started, process ")
    assert cli("daemon", "start").out.startswith("runs already, process ")
    status = cli("daemon", "status", "--json").json
    pid = status["pid"]
    assert isinstance(pid, int)
    assert mode(places.socket) == 0o600
    assert mode(places.runtime) == mode(places.state) == 0o700
    assert mode(places.journal) == 0o600
    process = psutil.Process(pid)
    assert process.net_connections(kind="inet") == []
    assert process.memory_info().rss < IDLE_BYTES
    assert "daemon" in cli("daemon", "logs").out
    assert cli("daemon", "stop").out == f"stopped process {pid}\n"
    assert not places.socket.exists()
    wait_for(lambda: not is_alive(pid), "the process is gone")
    assert cli("daemon", "stop").out == "no daemon runs\n"


def test_a_job_is_done_told_and_its_result_kept(cli: Cli, places: Places, client: DaemonClient) -> None:
    job = client.submit(DoctorJob())
    states = [entry.event.state for entry in client.events(job.id) if isinstance(entry.event, StateChange)]
    assert states == ["queued", "running", "succeeded"]
    check_history(client, places, job)
    assert json.loads(client.result(job.id))["schema_version"] == 1
    answer = cli("attach", job.id, "--json")
    assert answer.json["schema_version"] == 1
    assert cli("jobs", "--json").json["schema_version"] == 1
    assert job.id in cli("jobs").out
    assert cli("cancel", "1").code == 2


def test_a_job_that_fails_says_why_and_ends_as_the_verb_would(cli: Cli, places: Places, tmp_path: Path) -> None:
    answer = cli("validate", tmp_path / "nothing", "--detach")
    assert answer.out == "j00001\n"
    alone = cli("validate", tmp_path / "nothing")
    followed = cli("attach", "1")
    assert followed.code == alone.code != 0
    assert alone.err.removeprefix("edgeprune: ").strip() in followed.out
    assert "edgeprune: " in cli("attach", "1", "--log").out


def test_ctrl_c_lets_go_of_a_job_that_goes_on(places: Places, client: DaemonClient) -> None:
    job = client.submit(ProfileJob())
    attached = subprocess.Popen(
        [sys.executable, "-m", "edgeprune", "attach", job.id], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    assert attached.stderr is not None
    assert attached.stderr.readline()  # it follows
    attached.send_signal(signal.SIGINT)
    said = attached.stderr.read().decode()
    attached.stderr.close()
    assert attached.wait(timeout=60) == 0
    assert f"let go of job {job.id}, which goes on" in said
    assert client.job(job.id).state == "running"
    client.cancel(job.id)
    assert list(client.events(job.id))[-1].event == StateChange(
        state="cancelled",
        time_s=client.job(job.id).finished_s or 0.0,
        exit_code=130,
        error="Cancelled; finished stages are kept.",
    )


def test_a_queued_job_is_cancelled_without_having_run(places: Places, client: DaemonClient) -> None:
    first, second, third = client.submit(ProfileJob()), client.submit(QUICK), client.submit(QUICK)
    assert client.cancel(second.id).state == "cancelled"
    client.cancel(first.id)
    assert list(client.events(third.id))[-1].event.state == "succeeded"  # type: ignore[union-attr]
    assert client.job(second.id).started_s is None
    assert client.resume(second.id).state in ("queued", "running")
    list(client.events(second.id))
    assert client.job(second.id).state == "succeeded"


def test_a_killed_daemon_comes_back_with_everything_it_was_told(places: Places, client: DaemonClient) -> None:
    job, waiting = client.submit(ProfileJob()), client.submit(QUICK)
    wait_for(lambda: client.job(job.id).stage == "profile", "the job works")
    child = int((places.jobs / job.id / "lock").read_text())
    kill_daemon(places)
    wait_for(lambda: not is_alive(child), "the job died with the daemon")
    assert places.socket.exists()  # stale, and no hindrance
    again = connect(places=places)
    assert again.job(job.id).state == "interrupted"
    history = check_history(again, places, job)
    assert any(isinstance(entry.event, Event) for entry in history)
    list(again.events(waiting.id))
    assert again.job(waiting.id).state == "succeeded"  # what was queued went on by itself
    assert again.resume(job.id).state == "running"
    wait_for(lambda: len(list(again.events(job.id, len(history) + 2, follow=False))) > 0, "it tells again")
    again.cancel(job.id)
    list(again.events(job.id))
    check_history(again, places, job)
    again.close()


def test_a_killed_child_is_interrupted_and_can_be_resumed(places: Places, client: DaemonClient) -> None:
    job = client.submit(ProfileJob())
    wait_for(lambda: client.job(job.id).stage == "profile", "the job works")
    os.kill(int((places.jobs / job.id / "lock").read_text()), signal.SIGKILL)
    list(client.events(job.id))
    found = client.job(job.id)
    assert (found.state, found.error) == (
        "interrupted",
        "The job's process was ended while it ran; resume goes on with what is finished.",
    )
    client.resume(job.id)
    client.cancel(job.id)
    list(client.events(job.id))
    check_history(client, places, job)


def test_stopping_the_daemon_interrupts_what_runs(cli: Cli, places: Places, client: DaemonClient) -> None:
    job = client.submit(ProfileJob())
    wait_for(lambda: client.job(job.id).stage == "profile", "the job works")
    stopped = cli("daemon", "stop")
    assert f"job {job.id} was interrupted" in stopped.err
    again = connect(places=places)
    assert again.job(job.id).state == "interrupted"
    again.close()


def test_a_second_daemon_says_that_there_is_one(places: Places, client: DaemonClient, tmp_path: Path) -> None:
    pid = client.status().pid
    second = run_second(places)
    assert second.returncode == 5
    assert f"A daemon runs already (process {pid})" in second.stderr
    third = run_second(places, **{RUNTIME_VARIABLE: str(tmp_path / "other")})
    assert third.returncode == 5
    assert "holds the journal" in third.stderr
    assert client.status().pid == pid


def test_clients_that_start_it_at_the_same_moment_find_the_same_daemon(places: Places) -> None:
    found: list[int] = []

    def start() -> None:
        client = connect(places=places)
        found.append(client.status().pid)
        client.close()

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1


def test_a_journal_of_a_newer_version_is_left_alone(cli: Cli, places: Places) -> None:
    places.make()
    connection = sqlite3.connect(places.journal)
    connection.execute(f"PRAGMA user_version = {JOURNAL_VERSION + 1}")
    connection.close()
    answer = cli("daemon", "start")
    assert answer.code == 4
    assert f"has version {JOURNAL_VERSION + 1}, this EdgePrune reads up to {JOURNAL_VERSION}" in answer.err
    assert not places.socket.exists()


def test_what_stands_in_the_way_is_named(cli: Cli, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    places.make()
    places.socket.write_text("a file")
    answer = cli("daemon", "start")
    assert (answer.code, "something else is there" in answer.err) == (2, True)
    assert places.socket.read_text() == "a file"
    monkeypatch.setenv(RUNTIME_VARIABLE, str(places.runtime / ("x" * 120)))
    answer = cli("daemon", "start")
    assert (answer.code, "is longer than the" in answer.err) == (2, True)
    monkeypatch.setenv(RUNTIME_VARIABLE, str(places.socket))
    answer = cli("daemon", "start")
    assert (answer.code, "is a file where a folder is needed" in answer.err) == (2, True)


def test_a_full_disk_is_a_sentence_and_the_daemon_lives_on(places: Places, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    places.make()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k,mode=700", "none", str(places.state)])
    if mounted.returncode != 0:
        pytest.skip("no tmpfs can be mounted here")
    client = connect(places=places)
    try:
        filler = places.state / "filler"
        with filler.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
            while True:
                stream.write(b"x" * 1024)

        def submit_many() -> None:
            for _ in range(200):
                client.submit(SearchJob(run=str(tmp_path / ("x" * 200))))

        with pytest.raises(DeviceError, match="The disk is full: the journal"):
            submit_many()
        assert client.status().pid > 0
        filler.unlink()
        job = client.submit(SearchJob(run=str(tmp_path / "nothing")))
        list(client.events(job.id))
        assert client.job(job.id).state == "failed"
    finally:
        client.close()
        kill_daemon(places)
        subprocess.run(["umount", str(places.state)], check=True)


def test_the_socket_of_another_user_is_not_spoken_to(places: Places) -> None:
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    places.make()
    listen = (
        "import os, socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); os.chmod(sys.argv[1], 0o777); "
        "os.setuid(65534); s.listen(); print('listens', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", listen, str(places.socket)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(ProtocolError, match="belongs to another user"):
            find_daemon(places)
        assert other.stdin is not None
        other.stdin.close()


def test_another_protocol_is_refused_by_its_version(places: Places, client: DaemonClient) -> None:
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(places.socket)), base_url="http://d") as raw:
        answer = raw.get("/jobs", headers={"Edgeprune-Protocol": "99"})
        assert answer.status_code == 426
        assert "speaks protocol 1, not '99'" in answer.json()["error"]
        assert raw.get("/jobs").status_code == 200  # curl names none


def test_a_job_beyond_its_memory_limit_ends_with_a_sentence(client: DaemonClient) -> None:
    job = client.submit(ProfileJob(quick=True, memory_bytes=150 << 20))
    list(client.events(job.id))
    found = client.job(job.id)
    assert (found.state, found.exit_code) == ("failed", 4)
    # Where jobs have a control group the kernel ends them, elsewhere the allocation is refused.
    assert "Unable to allocate" in (found.error or "") or "more memory than its limit" in (found.error or "")


def test_no_daemon_is_started_where_none_is_wanted(places: Places) -> None:
    assert find_daemon(places) is None
    with pytest.raises(Exception, match="No daemon runs") as raised:
        connect(start=False, places=places)
    assert raised.value.exit_code == 5  # type: ignore[attr-defined]


def test_many_clients_keep_their_order(places: Places, client: DaemonClient, tmp_path: Path) -> None:
    from tests.bench.daemon_queue import measure

    row = measure(places, clients=4, jobs_each=5, folder=tmp_path)
    assert row.final_count == row.job_count == 20
    assert row.is_order_kept


def test_a_search_killed_again_and_again_ends_with_the_same_recipe(places: Places, tmp_path: Path) -> None:
    from tests.bench.daemon_kills import measure

    row = measure(places, kills=3, seed=0, root=tmp_path.resolve())
    assert row.finished_count == row.same_count == row.search_count
    assert row.gaps == []
    assert row.repeated_evaluations == 0
    assert sum(row.hits.values()) == 3


def test_malformed_requests_are_refused_in_words_and_touch_nothing(places: Places, tmp_path: Path) -> None:
    from tests.bench.daemon_malformed import measure

    row = measure(places, count=300, seed=1, folder=tmp_path)
    assert row.unexpected == []
    assert row.refused_count == row.request_count
    assert row.is_alive
    assert row.touched == []


def test_an_unknown_job_is_a_usage_error(cli: Cli, client: DaemonClient) -> None:
    with pytest.raises(UsageError, match="There is no job"):
        client.job("j00042")
    for verb in ("attach", "cancel", "resume"):
        assert cli(verb, "42").code == 2
