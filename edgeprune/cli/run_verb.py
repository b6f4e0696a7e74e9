"""`edgeprune run [MODEL]`: the whole job."""

from pathlib import Path

import click

from edgeprune.cli.diagnostics import TerminalProgress, note
from edgeprune.cli.job_text import detach_option, hand_over, place_output
from edgeprune.cli.options import (
    activations_option,
    budget_options,
    emulate_option,
    executor_options,
    form_options,
    host_memory_option,
    json_option,
    last_logits_option,
    lock_option,
    output_option,
    runtime_options,
    text_options,
    workload_options,
)
from edgeprune.cli.output import table, write_record_json, write_text
from edgeprune.cli.recover_options import recover_options
from edgeprune.jobs.exit_code import exit_code_of
from edgeprune.schema.budget import DECODE_TOKENS, BudgetRequest
from edgeprune.schema.emulation import parse_emulation
from edgeprune.schema.jobs import RunJob
from edgeprune.schema.lock import Lock
from edgeprune.schema.recipe import RoundingMethod
from edgeprune.schema.recovery import RecoveryRequest
from edgeprune.schema.report import RunReport
from edgeprune.schema.run import RunOutcome, RunPreview, RunRequest
from edgeprune.units import format_bytes, format_seconds

__all__ = ["command"]

_ACTIVATIONS = {"cpu": "float32", "cuda": "float16"}
"""What a provider is quickest in."""


@click.command("run")
@click.argument("model", required=False)
@click.option("--device", help="Saved or shipped profile, or a path (default: measure this device).")
@click.option("--recipe", type=click.Path(path_type=Path), help="Run this recipe.toml as written.")
@click.option(
    "--also",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Text of another field, measured to say what was forgotten; repeatable.",
)
@click.option("--quick", is_flag=True, help="Profile in a few seconds, with wider ranges.")
@click.option("--dry-run", is_flag=True, help="Say what would be done and needed; do nothing.")
@budget_options
@lock_option
@workload_options
@text_options
@runtime_options
@emulate_option
@click.option(
    "--evaluations",
    type=click.IntRange(min=0),
    default=12,
    show_default=True,
    help="Recipes at most that the search builds and measures; 0 trusts its predictions.",
)
@recover_options
@form_options
@last_logits_option
@activations_option
@executor_options
@host_memory_option
@output_option
@detach_option
@json_option
def command(
    model: str | None,
    device: str | None,
    recipe: Path | None,
    also: tuple[Path, ...],
    quick: bool,
    dry_run: bool,
    budget: BudgetRequest | None,
    locks: tuple[Lock, ...] | None,
    context: int | None,
    decode_tokens: int | None,
    domain: tuple[Path, ...],
    general: tuple[Path, ...],
    evaluation: tuple[Path, ...],
    questions: Path | None,
    seed: int,
    threads: int | None,
    ep: str,
    emulate: str | None,
    evaluations: int,
    recovery: RecoveryRequest | None,
    kv_bits: str | None,
    rounding: RoundingMethod,
    uniform_kv: bool,
    last_logits: bool,
    activations: str | None,
    workers: int,
    cluster: str | None,
    max_host_memory_bytes: int | None,
    output: Path | None,
    detaches: bool,
    as_json: bool,
) -> int:
    """Profile, search, compress, export, validate and report.

    MODEL is a Hugging Face folder or hub id; without it the demo model that ships with EdgePrune is used. The same
    command again resumes; a changed budget runs only the search and what follows.
    """
    from edgeprune import api  # after the flags are read, so that a mistyped flag answers at once

    request = RunRequest(
        model=model,
        device=device,
        budget=budget or BudgetRequest(),
        context_tokens=context,
        decode_tokens=decode_tokens or DECODE_TOKENS,
        domain=tuple(map(str, domain)),
        general=tuple(map(str, general)),
        evaluation=tuple(map(str, evaluation)),
        also=tuple(map(str, also)),
        questions=None if questions is None else str(questions),
        thread_count=threads,
        execution_provider=ep,
        seed=seed,
        quick=quick,
        emulation=None if emulate is None else parse_emulation(emulate),
        locks=locks or (),
        recipe=None if recipe is None else str(recipe),
        evaluations=evaluations,
        recovery=recovery,
        kv_bits=8 if kv_bits == "8" else 32,
        rounding=rounding,
        uniform_kv=uniform_kv,
        last_logits=last_logits,
        activation_bits=16 if (activations or _ACTIVATIONS[ep]) == "float16" else 32,
        worker_count=workers,
        cluster=cluster,
        max_host_memory_bytes=max_host_memory_bytes,
    )
    if dry_run:
        preview = api.preview(request, output=output)
        if as_json:
            write_record_json(preview)
        else:
            write_text(_preview_text(preview))
        return 0
    if detaches:
        runs, name = place_output(output)
        return hand_over(RunJob(request=request, runs=runs, output=name), as_json=as_json)
    progress = TerminalProgress()
    try:
        outcome = api.run(request, output=output, progress=progress)
    finally:
        progress.close()
    if as_json:
        write_record_json(outcome)
    else:
        write_text(_outcome_text(outcome))
    if outcome.message:
        note(f"edgeprune: {outcome.message}")
    return int(exit_code_of(outcome))


def _preview_text(preview: RunPreview) -> str:
    needs = preview.needs
    stages = ", ".join(name for name, state in preview.stages.items() if state == "run") or "none"
    return "\n".join(
        (
            f"model    {preview.model_name}, {preview.parameter_count / 1e6:.1f} M parameters",
            f"context  {preview.context_tokens} tokens",
            f"folder   {preview.folder}",
            f"memory   {format_bytes(needs.memory_bytes)} needed, {format_bytes(needs.free_memory_bytes)} available",
            f"disk     {format_bytes(needs.disk_bytes)} needed, {format_bytes(needs.free_disk_bytes)} free",
            f"to run   {stages}",
        )
    )


def _outcome_text(outcome: RunOutcome) -> str:
    lines = []
    if outcome.report is not None:
        lines.append(_report_table(outcome.report))
        for check in outcome.report.checks:
            measured = "not measured" if check.measured is None else _plain(check.measured, check.unit)
            lines.append(f"{check.quantity}: {measured}, limit {_plain(check.limit, check.unit)}: {check.verdict}")
    lines.append(f"verdict: {outcome.verdict}")
    if outcome.report is not None and outcome.report.validation.better_plain is not None:
        lines.append(outcome.report.validation.better_plain)
    lines.append(f"everything is in {outcome.folder}")
    return "\n".join(lines)


def _report_table(report: RunReport) -> str:
    names = list(dict.fromkeys(quantity.name for row in report.rows for quantity in row.quantities))
    rows = []
    for name in names:
        cells = [name]
        for row in report.rows:
            quantity = next((item for item in row.quantities if item.name == name), None)
            if quantity is None or quantity.value is None:
                cells.append("n/a")
            else:
                mark = {"measured": "", "config": "*"}.get(quantity.basis, "~")
                cells.append(mark + _plain(quantity.value, quantity.unit))
        rows.append(cells)
    return table(["measured (~ estimated, * from files)", *(row.label for row in report.rows)], rows)


def _plain(value: float, unit: str) -> str:
    if unit == "bytes":
        return format_bytes(value)
    if unit == "s":
        return format_seconds(value)
    return f"{value:.4g}"
