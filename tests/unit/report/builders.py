"""A small run's records: a real search on a synthetic model, with measurements set here."""

import functools

from edgeprune.predict.cost import CostModel
from edgeprune.predict.quality import QualityModel
from edgeprune.report.compare import build_report
from edgeprune.schema.budget import Budget
from edgeprune.schema.candidate import SearchResult
from edgeprune.schema.device import RuntimeInfo
from edgeprune.schema.measurement import (
    AccuracyResult,
    BundleMeasurement,
    Check,
    LatencySamples,
    TextResult,
    ValidationReport,
)
from edgeprune.schema.report import RunReport
from edgeprune.search.solve import search
from edgeprune.shapes import edit_shapes
from tests.unit.search.builders import make_device, make_scores, make_spec, make_workload

SPEC = make_spec(blocks=3)
BITS = {"dense": 1.2, "int8": 1.201, "int4": 1.25, "recipe": 1.23}


@functools.cache
def make_search(budget: Budget | None = None) -> SearchResult:
    scores, arrays = make_scores(SPEC, channel_counts=(96, 128), depth=[(1,)], vocabulary=[256])
    workload = make_workload(SPEC)
    return search(
        SPEC,
        scores,
        arrays,
        cost_model=CostModel(make_device(), SPEC, workload),
        quality_model=QualityModel(SPEC, scores, arrays),
        budget=budget or Budget(disk_bytes=120_000),
        workload=workload,
        device_name="bench",
        seed=0,
    )


def make_measurement(label: str, *, decode_s: float | None = 2e-4, disk_bytes: int = 200_000) -> BundleMeasurement:
    samples = () if decode_s is None else tuple(decode_s * (1.0 + 0.01 * index) for index in range(64))
    decode = () if decode_s is None else (LatencySamples(samples_s=samples, median_s=decode_s, p95_s=decode_s * 1.6),)
    return BundleMeasurement(
        label=label,
        disk_bytes=disk_bytes,
        weights_bytes=disk_bytes - 30_000,
        memory=(),
        floor_bytes=60_000_000,
        peak_rss_bytes=64_000_000,
        model_memory_bytes=4_000_000,
        load_time_s=0.05,
        prefill=None,
        time_to_first_token_s=None,
        decode=decode,
        decode_s=decode_s,
        texts=(
            TextResult(
                name="domain", bits_per_byte=BITS[label], loss_nats=3.0, scored_token_count=900, scored_bytes=3_600
            ),
        ),
        accuracy=(AccuracyResult(name="exam", accuracy=0.5, low=0.4, high=0.6, question_count=96),),
        greedy_matched_count=8,
        has_degenerate_loop=False,
    )


def make_validation(
    labels: tuple[str, ...] = ("dense", "int8", "int4", "recipe"), **fields: object
) -> ValidationReport:
    values: dict[str, object] = {
        "verdict": "met",
        "checks": (Check(quantity="disk", limit=120_000.0, measured=118_000.0, unit="bytes", verdict="met"),),
        "budget": Budget(disk_bytes=120_000),
        "measurements": tuple(make_measurement(label) for label in labels),
        "device_name": "bench",
        "runtime": RuntimeInfo(onnxruntime_version="1.31.0", execution_providers=("CPUExecutionProvider",)),
        "execution_provider": "CPUExecutionProvider",
        "thread_count": 2,
        "conditions_before": None,
        "conditions_after": None,
        "created_at": "2026-01-01T00:00:00+00:00",
    }
    return ValidationReport(**values | fields)  # type: ignore[arg-type]


def make_report(validation: ValidationReport | None = None, *, name: str | None = None) -> RunReport:
    result = make_search()
    assert result.chosen is not None
    spec = (
        SPEC
        if name is None
        else type(SPEC)(**{key: getattr(SPEC, key) for key in SPEC.__struct_fields__} | {"name": name})
    )
    scores, _ = make_scores(SPEC)
    return build_report(
        result,
        validation or make_validation(),
        dense_spec=spec,
        edited_spec=edit_shapes(spec, result.chosen.recipe),
        scores=scores,
        device=make_device(),
        versions={"edgeprune": "0.1.0", "onnxruntime": "1.31.0"},
        created_at="2026-01-01T00:00:00+00:00",
    )
