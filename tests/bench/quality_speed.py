"""What a built model weighs and how long a token takes: exported, then decoded without torch in a fresh process."""

import shutil
from pathlib import Path
from typing import NamedTuple

from edgeprune.export.bundle import export_bundle
from edgeprune.intake.load import LoadedModel
from edgeprune.pipeline.versions import tool_versions
from edgeprune.runtime.session import CPU_PROVIDER
from edgeprune.runtime.threads import usable_core_count
from edgeprune.schema.budget import Workload
from edgeprune.schema.events import NullProgress
from edgeprune.schema.recipe import Recipe
from edgeprune.validate.bundle import open_bundle
from edgeprune.validate.latency import SpeedRequest, run_speed
from tests.bench.quality_lab import CONTEXT_TOKENS

__all__ = ["Speed", "measure_speed"]

_ROUNDS = 3
_TIMEOUT_S = 300.0


class Speed(NamedTuple):
    """Of one bundle."""

    bundle_bytes: int
    """All files but the manifest; no evaluation sets were written."""
    token_s: float
    """Median seconds a token up to the end of the context, the least of three processes."""


def measure_speed(built: LoadedModel, recipe: Recipe, scratch: Path) -> Speed:
    """Export into a scratch folder, time, and remove it."""
    workload = Workload(context_tokens=CONTEXT_TOKENS)
    try:
        export_bundle(
            built,
            recipe,
            folder=scratch,
            label="plain",
            workload=workload,
            texts=(),
            choices=(),
            budget=None,
            predicted=None,
            versions=tool_versions(),
            progress=NullProgress(),
        )
        bundle = open_bundle(scratch)
        request = SpeedRequest(
            model=str(bundle.model_path),
            execution_provider=CPU_PROVIDER,
            thread_count=usable_core_count(),
            context_tokens=workload.context_tokens,
            prefill_chunk_tokens=workload.prefill_chunk_tokens,
            decode_tokens=workload.decode_tokens,
        )
        times = [run_speed(request, timeout_s=_TIMEOUT_S).decode.median_s for _ in range(_ROUNDS)]
        return Speed(bundle_bytes=bundle.disk_bytes, token_s=min(times))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
