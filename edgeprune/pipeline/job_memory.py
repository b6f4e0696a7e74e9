"""How much memory each process of a job may hold: what is predicted for it, and slack.

The limit is on private writable addresses (RLIMIT_DATA), of which torch and its threads reserve more than they touch;
hence twice the prediction and 2 GiB. It is there to end a job that runs away before the machine swaps.
"""

from pathlib import Path

from edgeprune.artifacts import RunFolder, read_record
from edgeprune.errors import EdgePruneError
from edgeprune.pipeline.host import predict_needs
from edgeprune.schema.jobs import CompressJob, ExportJob, JobRequest, LaserJob, RunJob, SearchJob, TechniqueJob
from edgeprune.schema.model import ModelSpec

__all__ = ["limit_of", "predicted_bytes"]

SLACK_BYTES = 2 << 30


def limit_of(request: JobRequest) -> int | None:
    """Bytes of the limit; None: none was asked for, or nothing can be predicted."""
    if request.memory_bytes is not None:
        return request.memory_bytes or None
    if isinstance(request, RunJob) and request.request.execution_provider != "cpu":
        return None  # a driver maps memory of its own by the gigabyte
    predicted = predicted_bytes(request)
    return None if predicted is None else 2 * predicted + SLACK_BYTES


def predicted_bytes(request: JobRequest) -> int | None:
    """Memory the largest process of a job is predicted to hold; None where nothing predicts it."""
    try:
        spec = _spec_of(request)
    except EdgePruneError:  # the job itself says in its own words what is wrong
        return None
    if spec is None:
        return None
    trains = request.request.recovery if isinstance(request, RunJob) else getattr(request, "recovery", None)
    return predict_needs(spec, Path("/"), recovers=trains is not None).memory_bytes


def _spec_of(request: JobRequest) -> ModelSpec | None:
    """The shapes of the job's model, from headers alone."""
    from edgeprune.intake.described import describe_folder

    match request:
        case SearchJob() | ExportJob() | CompressJob():
            path = RunFolder(Path(request.run)).model
            return read_record(path, ModelSpec) if path.is_file() else None
        case RunJob():
            from edgeprune.demo.paths import demo_model_path

            model = demo_model_path() if request.request.model is None else Path(request.request.model)
        case TechniqueJob() | LaserJob():
            model = Path(request.model)
        case _:
            return None
    return describe_folder(model).spec if (model / "config.json").is_file() else None
