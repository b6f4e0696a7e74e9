"""A limit on memory is kept by fewer processes where that is enough, and by refusing where it is not."""

from pathlib import Path

import pytest

from edgeprune.errors import UsageError
from edgeprune.intake.spec import read_spec
from edgeprune.pipeline.host import check_needs, fitting_workers, predict_needs
from tests.tiny import write_tiny_llama


def test_as_many_processes_as_fit(tmp_path: Path) -> None:
    spec = read_spec(write_tiny_llama(tmp_path / "m"))
    needs = {count: predict_needs(spec, tmp_path, worker_count=count).memory_bytes for count in (1, 2, 3, 4)}
    assert needs[1] < needs[2] < needs[3] < needs[4]
    for limit, expected in ((None, 4), (needs[4], 4), (needs[4] - 1, 3), (needs[2], 2), (needs[1] - 1, 1)):
        assert fitting_workers(spec, tmp_path, worker_count=4, limit_bytes=limit) == expected


def test_what_needs_more_than_allowed_is_refused(tmp_path: Path) -> None:
    needs = predict_needs(read_spec(write_tiny_llama(tmp_path / "m")), tmp_path)
    check_needs(needs, max_host_memory_bytes=needs.memory_bytes)
    with pytest.raises(UsageError, match="--max-host-memory allows"):
        check_needs(needs, max_host_memory_bytes=needs.memory_bytes - 1)
