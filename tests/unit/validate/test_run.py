from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from edgeprune.artifacts import record_json
from edgeprune.errors import Cancelled, ModelError, RuntimeUnavailableError, UsageError
from edgeprune.schema.budget import Budget
from edgeprune.schema.events import Event, NullProgress
from edgeprune.validate.bundle import read_manifest
from edgeprune.validate.run import validate_bundles
from tests.device.decoder_graph import TinyDecoder, rehash, write_bundle


class Recorded(NullProgress):
    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)


def test_two_bundles_are_measured_and_one_is_judged(tiny: TinyDecoder, tmp_path: Path) -> None:
    folders = {
        "dense": write_bundle(tmp_path / "dense", tiny, label="dense", question_count=4),
        "recipe": write_bundle(tmp_path / "recipe", TinyDecoder(blocks=1), question_count=4, source=tiny),
    }
    progress = Recorded()
    budget = Budget(memory_bytes=10**9, latency_s=1.0, disk_bytes=40_000, max_loss=0.0)
    report = validate_bundles(
        folders, budget=budget, device_name="bench", thread_count=1, progress=progress, quick=True
    )
    assert [check.verdict for check in report.checks] == ["met", "met", "met", "not_met"]
    assert report.verdict == "not_met"
    dense, recipe = report.measurements
    assert recipe.disk_bytes < dense.disk_bytes
    for measurement in report.measurements:
        assert [stage.stage for stage in measurement.memory] == ["floor", "load", "prefill", "decode"]
        assert measurement.peak_rss_bytes is not None
        assert measurement.floor_bytes is not None
        assert measurement.model_memory_bytes == measurement.peak_rss_bytes - measurement.floor_bytes
        assert [len(samples.samples_s) for samples in measurement.decode] == [16, 16, 16]
        assert measurement.decode_s == min(samples.median_s for samples in measurement.decode)
        assert measurement.greedy_matched_count == 8
        assert measurement.failures == ()
    assert [event.message.split(":")[0] for event in progress.events[:6]] == ["dense", "recipe"] * 3
    assert progress.events[-1].done_fraction == 1.0
    assert record_json(report)


def test_weights_that_changed_change_the_text_and_the_verdict(tiny: TinyDecoder, tmp_path: Path) -> None:
    dense = write_bundle(tmp_path / "dense", tiny, label="dense", question_count=4)
    recipe = write_bundle(tmp_path / "recipe", tiny, question_count=4)
    path = recipe / "model.onnx.data"
    weights = np.frombuffer(path.read_bytes(), dtype=np.float32).copy()
    rng = np.random.default_rng(0)
    weights[rng.choice(weights.size, weights.size // 100, replace=False)] += 4.0
    path.write_bytes(weights.tobytes())
    rehash(recipe, read_manifest(recipe))
    report = validate_bundles(
        {"dense": dense, "recipe": recipe}, budget=Budget(max_loss=0.02), device_name="bench", thread_count=1,
        progress=NullProgress(),
    )  # fmt: skip
    before, after = report.measurements
    assert after.texts[0].bits_per_byte > 1.02 * before.texts[0].bits_per_byte
    assert report.verdict == "not_met"


def test_a_damaged_bundle_is_refused_before_anything_runs(bundle: Path) -> None:
    (bundle / "model.onnx.data").write_bytes(b"")
    progress = Recorded()
    with pytest.raises(ModelError):
        validate_bundles({"recipe": bundle}, budget=None, device_name="x", thread_count=1, progress=progress)
    assert progress.events == []


def test_a_graph_onnxruntime_cannot_run_is_a_model_error(bundle: Path) -> None:
    content = (bundle / "model.onnx").read_bytes().replace(b"GroupQueryAttention", b"GroupQueryAttentiom")
    (bundle / "model.onnx").write_bytes(content)
    rehash(bundle, read_manifest(bundle))
    with pytest.raises(ModelError, match="GroupQueryAttentiom"):
        validate_bundles({"recipe": bundle}, budget=None, device_name="x", thread_count=1, progress=NullProgress())


def test_an_unknown_provider_is_said_first(bundle: Path) -> None:
    with pytest.raises(RuntimeUnavailableError, match="NoSuchProvider"):
        validate_bundles(
            {"recipe": bundle}, budget=None, device_name="x", execution_provider="NoSuchProvider",
            progress=NullProgress(),
        )  # fmt: skip


def test_a_bundle_for_a_newer_runtime_is_refused(bundle: Path) -> None:
    rehash(bundle, replace(read_manifest(bundle), minimum_onnxruntime="99.1"))
    with pytest.raises(RuntimeUnavailableError, match=r"needs onnxruntime 99\.1 or newer"):
        validate_bundles({"recipe": bundle}, budget=None, device_name="x", progress=NullProgress())


def test_several_bundles_need_one_to_judge(bundle: Path) -> None:
    with pytest.raises(UsageError, match="labelled recipe"):
        validate_bundles({"a": bundle, "b": bundle}, budget=None, device_name="x", progress=NullProgress())


def test_cancelling_stops_between_processes(bundle: Path) -> None:
    class Impatient(Recorded):
        def raise_if_cancelled(self) -> None:
            if self.events:
                raise Cancelled("stopped by the user")

    progress = Impatient()
    with pytest.raises(Cancelled):
        validate_bundles({"recipe": bundle}, budget=None, device_name="x", thread_count=1, progress=progress)
    assert len(progress.events) == 1
