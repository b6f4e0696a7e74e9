"""The stages that run on a device without torch: profile, search, validate, report."""

from datetime import datetime, timezone
from pathlib import Path

from msgspec.structs import replace

from edgeprune.artifacts import atomic_write, read_arrays, read_record, write_record
from edgeprune.errors import InfeasibleBudgetError
from edgeprune.pipeline.recipe_file import recipe_toml, write_recipe_file
from edgeprune.pipeline.settings import (
    BASELINES,
    EXECUTION_PROVIDERS,
    dense_spec,
    read_recipe,
    workload_of,
)
from edgeprune.pipeline.table import Run
from edgeprune.pipeline.versions import tool_versions
from edgeprune.predict.packed import packed_widths
from edgeprune.schema.budget import Budget
from edgeprune.schema.candidate import Candidate, SearchResult
from edgeprune.schema.correction import Recalibration
from edgeprune.schema.device import DeviceProfile
from edgeprune.schema.measurement import ValidationReport
from edgeprune.schema.model import ModelSpec
from edgeprune.schema.scores import Scores
from edgeprune.shapes import edit_shapes, with_groups
from edgeprune.units import format_bytes, format_seconds

__all__ = [
    "attention_shapes",
    "bundles_of",
    "keep_edited_recipe",
    "profile_inputs",
    "profile_stage",
    "report_inputs",
    "report_stage",
    "search_inputs",
    "search_stage",
    "site_shapes",
    "validate_inputs",
    "validate_stage",
]


def profile_inputs(run: Run) -> list[object]:
    """The named profile, or what decides a measurement."""
    request = run.request
    spec = dense_spec(run)
    named: object = None
    if request.device is not None:
        from edgeprune.profile.store import load_profile  # a named profile is data

        named = load_profile(request.device)
    wanted = [site_shapes(spec), attention_shapes(spec), request.quick]
    # A named profile is data: what is emulated while measuring does not change it.
    emulation = None if request.device is not None else request.emulation
    return [named, request.thread_count, request.execution_provider, *wanted, emulation]


def profile_stage(run: Run) -> str:
    """Measure this device, or take the named profile."""
    from edgeprune.profile.emulated import profile_emulated  # onnxruntime
    from edgeprune.profile.store import load_profile

    request = run.request
    spec = dense_spec(run)
    if request.device is not None:
        profile = load_profile(request.device)
    else:
        profile = profile_emulated(
            request.emulation,
            name="this-device",
            quick=request.quick,
            disk_path=run.folder.root,
            progress=run.progress,
            thread_count=request.thread_count,
            shapes=site_shapes(spec),
            attention_shapes=attention_shapes(spec),
        )
    write_record(run.folder.device, profile)
    floor = None if profile.floor is None else profile.floor.peak_rss_bytes
    return f"{profile.cpu.model or profile.name}, {len(profile.kernel_times)} kernel times, floor {format_bytes(floor)}"


def site_shapes(spec: ModelSpec) -> tuple[tuple[int, int], ...]:
    """(in, out) of every product of the model: sites, those that are one product together, and the head, each once."""
    shapes = {(site.in_features, site.out_features) for block in spec.blocks for site in block.sites}
    for block in spec.blocks:
        widths = packed_widths(block, hidden_size=spec.hidden_size).values()
        shapes |= {(spec.hidden_size, width) for width in widths}
    return tuple(sorted(shapes | {(spec.hidden_size, spec.vocab_size)}))


def attention_shapes(spec: ModelSpec) -> tuple[tuple[int, int, int], ...]:
    """(heads, key and value heads, head size) of every block, and with half of its groups, each once.

    Heads take time and so does a node without them: from one size alone neither would be known.
    """
    halves = [with_groups(block, max(1, block.num_kv_heads // 2)) for block in spec.attention_blocks]
    blocks = (*spec.attention_blocks, *halves)
    return tuple(sorted({(block.num_heads, block.num_kv_heads, block.head_dim) for block in blocks}))


def search_inputs(run: Run) -> list[object]:
    """Everything the solver reads."""
    folder = run.folder
    files = (folder.device, folder.model, folder.scores, folder.scores_arrays)
    request = run.request
    given = None if request.recipe is None else run.hash_of(Path(request.recipe))
    asked = [request.budget, workload_of(run), request.seed, request.locks, given]
    asked += [request.kv_bits, request.rounding, request.uniform_kv]
    return [*(run.hash_of(path) for path in files), *asked]


def search_stage(run: Run) -> str:
    """Solve for the budget; writes the front and the recipe, which `refine` writes again.

    Raises:
        InfeasibleBudgetError: nothing fits, and building recipes could not change that; the front is written all the
            same.
    """
    from edgeprune.pipeline.run_solver import RunSolver  # the solver's library loads with it

    folder = run.folder
    result = RunSolver(run).solve(run)
    keep_edited_recipe(run, result.chosen)
    write_record(folder.front, result)
    if run.request.recipe is not None:
        atomic_write(folder.recipe, Path(run.request.recipe).read_bytes())
        read_recipe(run)
        return f"the recipe of {run.request.recipe}, as written"
    if result.chosen is None:
        if run.request.evaluations and _limits_quality(result.budget):
            return "nothing is predicted to be within the limits on quality; recipes that are built will tell"
        message = "" if result.infeasible is None else result.infeasible.message
        raise InfeasibleBudgetError(message or "No recipe meets the budget.")
    write_recipe_file(folder.recipe, result.chosen.recipe)
    cost = result.chosen.cost
    return (
        f"{result.chosen.label}: {format_bytes(cost.disk_bytes)} on disk, "
        f"{format_bytes(cost.peak_rss_bytes.value)} peak, {format_seconds(cost.decode_s.value)} a token, "
        f"loss {result.chosen.relative_loss:+.1%} predicted"
    )


def _limits_quality(budget: Budget) -> bool:
    return any(limit is not None for limit in (budget.max_loss, budget.max_general_loss, budget.min_accuracy))


def keep_edited_recipe(run: Run, chosen: Candidate | None) -> None:
    """Before a new recipe is written: move one the user has edited aside, since nothing of theirs may be lost.

    What was written for the candidate itself, by a run stopped before its front was, is nobody's edit.
    """
    folder = run.folder
    if not (folder.recipe.is_file() and folder.front.is_file()):
        return
    before, text = read_record(folder.front, SearchResult), folder.recipe.read_bytes()
    ours = [recipe_toml(entry.recipe).encode() for entry in (before.chosen, chosen) if entry is not None]
    if text not in ours:
        atomic_write(folder.recipe.with_name("recipe.edited.toml"), text)


def bundles_of(run: Run) -> dict[str, Path]:
    """Label -> bundle folder of everything the run compares."""
    return {"recipe": run.folder.bundle} | {label: run.folder.baseline(label) for label in BASELINES}


def validate_inputs(run: Run) -> list[object]:
    """The bundles by their manifests, the limits, threads and provider."""
    manifests = [run.hash_of(path / "edgeprune.json") for path in bundles_of(run).values()]
    request = run.request
    limits = [request.budget, request.thread_count, request.execution_provider, request.emulation]
    return [manifests, run.hash_of(run.folder.front), *limits]


def validate_stage(run: Run) -> str:
    """Measure every bundle in fresh processes."""
    from edgeprune.profile.conditions import read_conditions  # the pipeline hands validation its eyes on the machine
    from edgeprune.validate.run import validate_bundles

    run.close()  # idle workers still hold their memory, and what follows measures this machine
    result = read_record(run.folder.front, SearchResult)
    report = validate_bundles(
        bundles_of(run),
        budget=result.budget,
        device_name=result.device_name,
        execution_provider=EXECUTION_PROVIDERS[run.request.execution_provider],
        thread_count=run.request.thread_count,
        progress=run.progress,
        conditions=read_conditions,
        emulation=run.request.emulation,
    )
    write_record(run.folder.validation, report)
    return report.verdict


def report_inputs(run: Run) -> list[object]:
    """Every record the report shows."""
    folder = run.folder
    files = (folder.front, folder.validation, folder.recalibration, folder.scores, folder.model, folder.device)
    return [*(run.hash_of(path) for path in (*files, folder.scores_arrays)), read_recipe(run)]


def report_stage(run: Run) -> str:
    """Render the report as JSON, Markdown and HTML."""
    from edgeprune.report.compare import build_report
    from edgeprune.report.html import render_html
    from edgeprune.report.markdown import render_markdown

    folder = run.folder
    spec = dense_spec(run)
    validation = read_record(folder.validation, ValidationReport)
    if folder.recalibration.is_file():
        made = read_record(folder.recalibration, Recalibration)
        validation = replace(validation, recalibration=made if made.measured_at == validation.created_at else None)
    report = build_report(
        read_record(folder.front, SearchResult),
        validation,
        dense_spec=spec,
        edited_spec=edit_shapes(spec, read_recipe(run)),
        scores=read_record(folder.scores, Scores),
        device=read_record(folder.device, DeviceProfile),
        recipe=read_recipe(run),
        arrays=read_arrays(folder.scores_arrays) if folder.scores_arrays.is_file() else {},
        versions=tool_versions(),
        created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    atomic_write(folder.report.with_suffix(".md"), render_markdown(report).encode())
    atomic_write(folder.report.with_suffix(".html"), render_html(report).encode())
    write_record(folder.report, report)
    return str(folder.report.with_suffix(".html"))
