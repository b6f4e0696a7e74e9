"""A bundle measured as on a smaller device, and the row about its memory."""

import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from edgeprune.schema.emulation import EmulatedDevice, Emulation
from edgeprune.schema.events import NullProgress
from edgeprune.validate.emulation import check_emulated_memory
from edgeprune.validate.run import validate_bundles
from tests.unit.report.builders import make_measurement

LIMIT = 70_000_000
MEASURED = make_measurement("recipe")
FAILED = replace(MEASURED, peak_rss_bytes=None, failures=("speed: ran out of memory",))


def device(*, is_enforced: bool, memory_bytes: int | None = LIMIT) -> EmulatedDevice:
    return EmulatedDevice(core_count=1, cores=(0,), memory_bytes=memory_bytes, is_memory_enforced=is_enforced)


@pytest.mark.parametrize(
    ("is_enforced", "peak", "killed", "verdict"),
    [
        (True, LIMIT, 0, "met"),
        (True, LIMIT + 1, 0, "not_met"),
        (False, LIMIT - 1, 0, "unmeasured"),
        (False, LIMIT + 1, 0, "unmeasured"),
    ],
)
def test_only_an_enforced_limit_can_be_met(is_enforced: bool, peak: int, killed: int, verdict: str) -> None:
    chosen = replace(MEASURED, peak_rss_bytes=peak)
    (check,) = check_emulated_memory(device(is_enforced=is_enforced), chosen, killed_count=killed)
    assert check.verdict == verdict
    assert check.measured == (peak if is_enforced else None)


def test_a_process_ended_for_memory_does_not_meet_the_limit() -> None:
    (check,) = check_emulated_memory(device(is_enforced=True), FAILED, killed_count=3)
    assert check.verdict == "not_met"
    (check,) = check_emulated_memory(
        device(is_enforced=True), replace(FAILED, peak_rss_bytes=LIMIT - 1), killed_count=1
    )
    assert check.verdict == "not_met"


def test_another_bundles_end_is_not_held_against_this_one() -> None:
    (check,) = check_emulated_memory(device(is_enforced=True), MEASURED, killed_count=3)
    assert check.verdict == "met"


def test_without_a_memory_limit_there_is_no_row() -> None:
    assert check_emulated_memory(device(is_enforced=False, memory_bytes=None), MEASURED, killed_count=0) == ()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs affinity")
def test_a_validation_on_one_core_uses_one_thread_and_says_so(shared_bundle: Path) -> None:
    report = validate_bundles(
        {"recipe": shared_bundle},
        budget=None,
        device_name="bench",
        progress=NullProgress(),
        quick=True,
        emulation=Emulation(core_count=1),
    )
    assert report.thread_count == 1
    assert report.emulation is not None
    assert report.emulation.core_count == 1
    assert len(report.emulation.cores) == 1
    assert report.measurements[0].decode_s is not None
    assert report.verdict == "met"
