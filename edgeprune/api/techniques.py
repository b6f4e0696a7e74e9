"""One technique alone, without a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from edgeprune.schema.bundle import BundleManifest
from edgeprune.schema.events import NullProgress, Progress
from edgeprune.schema.model import SiteForm
from edgeprune.schema.recovery import RecoveryRequest
from edgeprune.schema.run import CompressOutcome, LaserOutcome

__all__ = ["compress_with", "export_by_block", "laser"]


def compress_with(
    model: str,
    *,
    technique: str,
    kept_fraction: float,
    domain: Sequence[Path],
    output: Path,
    general: Sequence[Path] = (),
    context: int | None = None,
    seed: int = 0,
    compensate: bool = True,
    repair_rank: int | None = None,
    rank_form: SiteForm | None = None,
    recovery: RecoveryRequest | None = None,
    progress: Progress | None = None,
) -> CompressOutcome:
    """One technique alone, to a fraction of the parameters; writes a Hugging Face folder to `output`.

    With a `repair_rank`, an operator of that rank is put in the place of each run of dropped blocks. `rank_form` says
    how `lowrank` stores ranks: as `pivot` (None), `factors`, or with right factors `shared` where that loses less.
    Without `compensate`, channels are sliced and what stays does not make up for what leaves. With a `recovery` the
    result is trained on the domain text for about so many minutes.
    """
    from edgeprune.pipeline.single import compress_single

    return compress_single(
        model,
        technique=technique,
        kept_fraction=kept_fraction,
        domain=domain,
        general=general,
        output=output,
        context=context,
        seed=seed,
        compensate=compensate,
        repair_rank=repair_rank,
        rank_form=rank_form,
        recovery=recovery,
        progress=progress or NullProgress(),
    )


def export_by_block(
    model: str,
    *,
    recipe: Path,
    domain: Sequence[Path],
    output: Path,
    evaluation: Sequence[Path] = (),
    context: int | None = None,
    max_host_memory_bytes: int | None = None,
    activation_bits: Literal[16, 32] = 32,
    progress: Progress | None = None,
) -> BundleManifest:
    """Apply a recipe file to a model that may be larger than memory, and write its bundle to `output`."""
    from edgeprune.pipeline.by_block import bundle_by_block, read_request

    request = read_request(
        model,
        recipe=recipe,
        domain=domain,
        evaluation=evaluation,
        context=context,
        max_host_memory_bytes=max_host_memory_bytes,
        activation_bits=activation_bits,
    )
    return bundle_by_block(request, output=output, progress=progress or NullProgress())


def laser(
    model: str,
    *,
    questions: Path,
    search: str = "fast",
    domain: Sequence[Path] = (),
    max_loss: float | None = None,
    output: Path | None = None,
    context: int | None = None,
    progress: Progress | None = None,
) -> LaserOutcome:
    """Search single low-rank interventions by a task file; see `pipeline.laser.intervene`."""
    from edgeprune.pipeline.laser import intervene

    return intervene(
        model, questions=questions, search=search, domain=domain, max_loss=max_loss, output=output, context=context,
        progress=progress or NullProgress(),
    )  # fmt: skip
