"""The ten stages as a table: name, inputs of the cache key, outputs, action.

    intake -> profile -> calibrate -> baselines -> search -> refine -> compress -> export -> validate -> report

`baselines` is the half of the export stage that no budget touches: the dense, 8-bit and 4-bit bundles.
"""

from edgeprune.pipeline.device_stages import (
    profile_inputs,
    profile_stage,
    report_inputs,
    report_stage,
    search_inputs,
    search_stage,
    validate_inputs,
    validate_stage,
)
from edgeprune.pipeline.host_stages import (
    baselines_inputs,
    baselines_stage,
    calibrate_inputs,
    calibrate_stage,
    compress_inputs,
    compress_stage,
    export_inputs,
    export_stage,
    intake_inputs,
    intake_stage,
)
from edgeprune.pipeline.refine import refine_inputs, refine_stage
from edgeprune.pipeline.settings import BASELINES
from edgeprune.pipeline.table import Stage

__all__ = ["STAGES", "stage_named"]

STAGES: tuple[Stage, ...] = (
    Stage("intake", intake_inputs, lambda run: [run.folder.model], intake_stage),
    Stage("profile", profile_inputs, lambda run: [run.folder.device], profile_stage),
    Stage(
        "calibrate",
        calibrate_inputs,
        lambda run: [run.folder.stats, run.folder.scores, run.folder.scores_arrays, run.folder.texts],
        calibrate_stage,
    ),
    Stage(
        "baselines", baselines_inputs, lambda run: [run.folder.baseline(label) for label in BASELINES], baselines_stage
    ),
    Stage("search", search_inputs, lambda run: [], search_stage, drafts=lambda run: [run.folder.front]),
    Stage("refine", refine_inputs, lambda run: [run.folder.front, run.folder.residuals], refine_stage),
    Stage("compress", compress_inputs, lambda run: [run.folder.hf], compress_stage),
    Stage("export", export_inputs, lambda run: [run.folder.bundle], export_stage),
    Stage("validate", validate_inputs, lambda run: [run.folder.validation], validate_stage),
    Stage(
        "report",
        report_inputs,
        lambda run: [run.folder.report.with_suffix(suffix) for suffix in (".json", ".md", ".html")],
        report_stage,
    ),
)


def stage_named(name: str) -> Stage:
    """The stage of that name."""
    return next(stage for stage in STAGES if stage.name == name)
