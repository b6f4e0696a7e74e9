"""What every `JobsClient` promises, for the daemon's and for the one without a daemon."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgeprune.errors import UsageError
from edgeprune.jobs.client import connect
from edgeprune.jobs.local_client import LocalClient
from edgeprune.jobs.protocol import JobsClient
from edgeprune.schema.events import Event
from edgeprune.schema.jobs import DoctorJob, ExplainJob, ProfileJob, RunJob, SearchJob, StateChange
from tests.cli.daemon_process import daemon_places, wait_for
from tests.cli.scored_run import write_scored_run

pytestmark = pytest.mark.slow


@pytest.fixture(params=["daemon", "local"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[JobsClient]:
    made: JobsClient
    if request.param == "local":
        made = LocalClient(tmp_path / "jobs")
        yield made
        made.close()
        return
    with daemon_places() as places:
        made = connect(places=places)
        yield made
        made.close()


def states(client: JobsClient, job_id: str) -> list[str]:
    return [entry.event.state for entry in client.events(job_id) if isinstance(entry.event, StateChange)]


def test_work_on_a_run_gives_the_record_of_its_verb(client: JobsClient, tmp_path: Path) -> None:
    run = write_scored_run(tmp_path / "run" / "scored")
    job = client.submit(SearchJob(run=str(run)))
    assert job.state in ("queued", "running")
    history = list(client.events(job.id))
    assert [entry.sequence for entry in history] == list(range(1, len(history) + 1))
    assert [entry.event.stage for entry in history if isinstance(entry.event, Event)].count("search") == 2
    found = client.job(job.id)
    assert (found.state, found.exit_code, found.run_folder) == ("succeeded", 0, str(run))
    chosen = json.loads(client.result(job.id))["chosen"]
    assert chosen == json.loads((run / "front.json").read_bytes())["chosen"]
    assert list(client.events(job.id, since=len(history) - 1)) == history[-1:]
    assert list(client.events(job.id, since=len(history), follow=False)) == []


def test_a_negative_answer_is_a_result(client: JobsClient, tmp_path: Path) -> None:
    from edgeprune.schema.budget import BudgetRequest, Limit

    run = write_scored_run(tmp_path / "run" / "scored")
    job = client.submit(SearchJob(run=str(run), budget=BudgetRequest(disk=Limit(absolute=1_000.0))))
    assert states(client, job.id)[-1] == "succeeded"
    assert client.job(job.id).exit_code == 1
    assert json.loads(client.result(job.id))["chosen"] is None


def test_a_failure_has_a_sentence_and_no_result(client: JobsClient, tmp_path: Path) -> None:
    job = client.submit(ExplainJob(path=str(tmp_path)))
    assert states(client, job.id) == ["queued", "running", "failed"]
    found = client.job(job.id)
    assert found.exit_code == 2
    assert found.error
    assert found.error in client.log(job.id)
    with pytest.raises(UsageError, match="is failed and has no result"):
        client.result(job.id)
    client.resume(job.id)
    assert states(client, job.id) == ["queued", "running", "failed", "queued", "running", "failed"]


def test_a_running_job_is_cancelled_while_others_follow_it(client: JobsClient) -> None:
    job = client.submit(ProfileJob())
    ends: list[list[str]] = []
    followers = [threading.Thread(target=lambda: ends.append(states(client, job.id))) for _ in range(3)]
    for follower in followers:
        follower.start()
    wait_for(lambda: client.job(job.id).stage == "profile", "the job works")
    assert client.cancel(job.id).state == "cancelling"
    for follower in followers:
        follower.join()
    assert ends == [["queued", "running", "cancelling", "cancelled"]] * 3
    with pytest.raises(UsageError, match="is cancelled and cannot be cancelled"):
        client.cancel(job.id)


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.job("j77777"), lambda client: client.cancel("j77777"),
        lambda client: client.resume("no id"), lambda client: client.result("../.."),
        lambda client: client.log(""), lambda client: list(client.events("j77777")),
        lambda client: client.submit(RunJob(output="../out")),
    ],
)  # fmt: skip
def test_what_is_not_there_or_not_allowed_is_a_usage_error(
    client: JobsClient, ask: Callable[[JobsClient], object]
) -> None:
    with pytest.raises(UsageError):
        ask(client)
    assert client.jobs() == []


def test_jobs_are_listed_in_the_order_they_came(client: JobsClient) -> None:
    made = [client.submit(DoctorJob()).id for _ in range(3)]
    for job_id in made:
        client.cancel(job_id) if client.job(job_id).state == "queued" else list(client.events(job_id))
    assert [job.id for job in client.jobs()] == made == sorted(made)


def test_a_question_is_answered_while_work_runs(client: JobsClient) -> None:
    work = client.submit(ProfileJob())
    question = client.submit(DoctorJob())
    assert states(client, question.id) == ["queued", "running", "succeeded"]
    assert client.job(work.id).state == "running"
    client.cancel(work.id)
    assert states(client, work.id)[-1] == "cancelled"
