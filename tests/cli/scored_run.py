"""A run folder as it stands after calibration, made of synthetic records: what searching and explaining need."""

from pathlib import Path

from edgeprune import __version__
from edgeprune.artifacts import RunFolder, write_arrays, write_record
from edgeprune.schema.budget import BudgetRequest, Limit
from edgeprune.schema.run import RunManifest, RunRequest
from tests.unit.search.builders import make_device, make_scores, make_spec

__all__ = ["DISK_BYTES", "write_scored_run"]

DISK_BYTES = 150_000


def write_scored_run(root: Path) -> Path:
    """Records of a 3-block model; its weights, statistics and texts are files nobody could read."""
    spec = make_spec(blocks=3)
    scores, arrays = make_scores(spec, channel_counts=(96, 128), depth=[(1,), (2,), (1, 2)], vocabulary=[256, 384])
    folder = RunFolder(root)
    model = root.parent / "model"
    model.mkdir(parents=True)
    (model / "model.safetensors").write_bytes(b"not to be opened")
    write_record(folder.model, spec)
    write_record(folder.device, make_device())
    write_record(folder.scores, scores)
    write_arrays(folder.scores_arrays, arrays)
    folder.stats.write_bytes(b"not to be opened")
    folder.texts.mkdir()
    request = RunRequest(
        model=str(model),
        budget=BudgetRequest(disk=Limit(absolute=DISK_BYTES)),
        context_tokens=128,
        domain=("text.txt",),
    )
    write_record(
        folder.manifest,
        RunManifest(request=request, model_hash=spec.model_hash, versions={"edgeprune": __version__}),
    )
    return root
