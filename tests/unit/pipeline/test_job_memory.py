"""The memory limit of a job: predicted from headers, asked for, or none."""

from pathlib import Path

import pytest

from edgeprune.pipeline.host import predict_needs
from edgeprune.pipeline.job_memory import SLACK_BYTES, limit_of, predicted_bytes
from edgeprune.schema.jobs import DoctorJob, JobRequest, LaserJob, RunJob, SearchJob
from edgeprune.schema.recovery import RecoveryRequest
from edgeprune.schema.run import RunRequest
from tests.cli.scored_run import write_scored_run
from tests.tiny import write_tiny_llama
from tests.unit.search.builders import make_spec


def test_it_is_twice_what_is_predicted_and_slack(tmp_path: Path) -> None:
    model = str(write_tiny_llama(tmp_path / "model"))
    request = RunJob(request=RunRequest(model=model))
    predicted = predicted_bytes(request)
    assert predicted is not None
    assert limit_of(request) == 2 * predicted + SLACK_BYTES
    trained = predicted_bytes(RunJob(request=RunRequest(model=model, recovery=RecoveryRequest(minutes=1.0))))
    assert trained is not None
    assert trained > predicted
    assert predicted_bytes(LaserJob(model=model, questions="/q")) == predicted


def test_a_run_that_is_there_is_predicted_from_its_own_record(tmp_path: Path) -> None:
    run = write_scored_run(tmp_path / "run" / "scored")
    assert predicted_bytes(SearchJob(run=str(run))) == predict_needs(make_spec(blocks=3), Path("/")).memory_bytes


@pytest.mark.parametrize(
    "request_",
    [
        DoctorJob(),
        SearchJob(run="/no/such/run"),
        RunJob(request=RunRequest(model="org/on-the-hub")),
        RunJob(request=RunRequest(execution_provider="cuda")),
    ],
)
def test_nothing_is_limited_where_nothing_is_predicted(request_: JobRequest) -> None:
    assert limit_of(request_) is None


def test_what_is_asked_for_counts(tmp_path: Path) -> None:
    assert limit_of(DoctorJob(memory_bytes=5)) == 5
    assert limit_of(RunJob(request=RunRequest(model=str(tmp_path)), memory_bytes=0)) is None
