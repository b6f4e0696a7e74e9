"""One technique alone: calibrate on the domain, make the technique's recipe, apply it, save."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from edgeprune.errors import UsageError
from edgeprune.pipeline.settings import KERNELS
from edgeprune.schema.events import Progress
from edgeprune.schema.run import CompressOutcome

__all__ = ["compress_single"]


def compress_single(
    model: str,
    *,
    technique: str,
    kept_fraction: float,
    domain: Sequence[Path],
    general: Sequence[Path],
    output: Path,
    context: int | None,
    seed: int,
    progress: Progress,
) -> CompressOutcome:
    """Compress a model with one technique to a fraction of its parameters.

    Raises:
        UsageError: an unknown technique, a fraction it cannot reach, or an output folder that is not empty.
        ModelError: the model cannot be loaded.
    """
    if output.exists() and any(output.iterdir()):
        raise UsageError(f"{output} is not empty; give a new folder with -o.")
    from edgeprune.calibrate.run import CalibrationRequest, calibrate  # torch: after the flags are known to be good
    from edgeprune.compress.apply import compress_model
    from edgeprune.compress.save import save_hf
    from edgeprune.compress.techniques.table import technique_recipe
    from edgeprune.intake.load import load_model
    from edgeprune.intake.source import resolve_model

    dense = load_model(resolve_model(model))
    tokens = min(context or 512, dense.spec.max_positions)
    with tempfile.TemporaryDirectory() as texts:
        result = calibrate(
            dense,
            CalibrationRequest(
                domain=tuple(domain),
                general=tuple(general),
                evaluation=(),
                context_tokens=tokens,
                seed=seed,
                kernels=KERNELS,
            ),
            texts_folder=Path(texts),
            progress=progress,
        )
    recipe = technique_recipe(
        dense.spec,
        technique,
        kept_fraction,
        scores=result.scores,
        arrays=result.arrays,
        context_tokens=tokens,
        seed=seed,
    )
    compressed = compress_model(dense, recipe, result.stats, progress=progress)
    save_hf(compressed, recipe, output)
    kept = compressed.spec.parameter_count / dense.spec.parameter_count
    return CompressOutcome(folder=str(output), kept_fraction=kept, recipe=recipe)
