"""`--emulate`: results are marked, limits nobody enforced are unmeasured, mistakes are refused at once."""

import os
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.device.decoder_graph import TinyDecoder, write_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundle") / "bundle", TinyDecoder(), question_count=4)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs affinity")
def test_the_result_is_marked_and_an_unenforced_memory_limit_is_never_met(cli: Cli, bundle: Path) -> None:
    answer = cli("validate", bundle, "--emulate", "cores=1,memory=2GB", "--json")
    report = answer.json
    device = report["emulation"]
    assert isinstance(device, dict)
    checks = report["checks"]
    assert isinstance(checks, list)
    check = next(entry for entry in checks if entry["quantity"] == "emulated_memory")
    assert report["thread_count"] == device["core_count"] == 1
    if device["is_memory_enforced"]:
        assert (answer.code, check["verdict"]) == (0, "met")
    else:
        assert (answer.code, check["verdict"], check["measured"]) == (4, "unmeasured", None)


@pytest.mark.parametrize("verb", ["validate", "profile", "run"])
@pytest.mark.parametrize("limits", ["cores=0", "ram=1GB", "memory=512"])
def test_limits_that_cannot_be_read_are_refused(cli: Cli, bundle: Path, verb: str, limits: str) -> None:
    answer = cli(verb, *([bundle] if verb == "validate" else []), "--emulate", limits)
    assert answer.code == 2
    assert "--emulate" in answer.err
    assert answer.out == ""


def test_more_cores_than_there_are_is_refused(cli: Cli, bundle: Path) -> None:
    answer = cli("validate", bundle, "--emulate", "cores=100000")
    assert answer.code == 2
    assert "more than the" in answer.err
