"""`edgeprune choose MODEL...`: which of several models to take, and whether pruning it is worth it."""

from pathlib import Path

import click

from edgeprune.cli.diagnostics import TerminalProgress, note
from edgeprune.cli.job_text import detach_option, hand_over, place_output
from edgeprune.cli.options import (
    budget_options,
    form_options,
    json_option,
    runtime_options,
    text_options,
    workload_options,
)
from edgeprune.cli.output import table, write_record_json, write_text
from edgeprune.jobs.exit_code import exit_code_of
from edgeprune.schema.budget import DECODE_TOKENS, BudgetRequest
from edgeprune.schema.choice import ChoiceReport, ChoiceRequest, ChoiceRow, DeviceChoice
from edgeprune.schema.estimate import Estimate
from edgeprune.schema.jobs import ChooseJob
from edgeprune.schema.recipe import RoundingMethod
from edgeprune.units import format_bytes, format_seconds

__all__ = ["command"]


@click.command("choose")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option("--device", "devices", multiple=True, help="Profile by name or path; repeatable (default: measure here).")
@click.option("--quick", is_flag=True, help="Profile in a few seconds, with wider ranges.")
@click.option("--measure", type=int, default=2, show_default=True, help="Models to build and measure here.")
@click.option("--evaluations", type=click.IntRange(min=0), help="Recipes built for each measured model.")
@budget_options
@workload_options
@text_options
@form_options
@runtime_options
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Folder to write (default edgeprune-runs/choice)."
)
@detach_option
@json_option
def command(
    models: tuple[str, ...],
    devices: tuple[str, ...],
    quick: bool,
    measure: int,
    evaluations: int | None,
    budget: BudgetRequest | None,
    context: int | None,
    decode_tokens: int | None,
    domain: tuple[Path, ...],
    general: tuple[Path, ...],
    evaluation: tuple[Path, ...],
    questions: Path | None,
    seed: int,
    kv_bits: str | None,
    rounding: RoundingMethod,
    uniform_kv: bool,
    threads: int | None,
    ep: str,
    output: Path | None,
    detaches: bool,
    as_json: bool,
) -> int:
    """Search each model under the same limits, measure the best, and rank them by bits-per-byte on your text.

    MODEL is a Hugging Face folder, a hub id, or `demo`. Models that cannot fit are told by their headers alone. The
    same command again resumes.
    """
    from edgeprune import api  # after the flags are read, so that a mistyped flag answers at once

    request = ChoiceRequest(
        models=models,
        devices=devices,
        budget=budget or BudgetRequest(),
        context_tokens=context,
        decode_tokens=decode_tokens or DECODE_TOKENS,
        domain=tuple(map(str, domain)),
        general=tuple(map(str, general)),
        evaluation=tuple(map(str, evaluation)),
        questions=None if questions is None else str(questions),
        thread_count=threads,
        execution_provider=ep,
        seed=seed,
        quick=quick,
        evaluations=evaluations,
        measure_count=measure,
        kv_bits=8 if kv_bits == "8" else 32,
        rounding=rounding,
        uniform_kv=uniform_kv,
    )
    if detaches:
        runs, name = place_output(output)
        return hand_over(ChooseJob(request=request, runs=runs, output=name), as_json=as_json)
    progress = TerminalProgress()
    try:
        report = api.choose(request, output=output, progress=progress)
    finally:
        progress.close()
    if as_json:
        write_record_json(report)
    else:
        write_text(_text(report))
    for text in report.notes:
        note(f"edgeprune: {text}")
    return int(exit_code_of(report))


def _text(report: ChoiceReport) -> str:
    lines = [_device_text(choice) for choice in report.devices]
    lines += [
        f"{entry.name}: {entry.status.replace('_', ' ')}: {entry.reason}" for entry in report.models if entry.reason
    ]
    lines.append(f"context {report.context_tokens} tokens, recovery {report.recovery}; ~ marks what is predicted")
    lines.append(f"verdict: {report.verdict}")
    return "\n".join(lines)


def _device_text(choice: DeviceChoice) -> str:
    best = {id(row) for row in choice.ranking}
    ranked = [*choice.ranking, *(row for row in choice.rows if id(row) not in best)]
    places = {id(row): str(number) for number, row in enumerate(choice.ranking, start=1)}
    rows = [[f"{places.get(id(row), '-')} {row.model} {row.label}", *_cells(row)] for row in ranked]
    head = [choice.device_name, "bits/byte", "accuracy", "disk", "peak memory", "per token", "fits"]
    return "\n".join([table(head, rows), *choice.advice]) + "\n"


def _cells(row: ChoiceRow) -> list[str]:
    mark = "" if row.quality_basis == "measured" else "~"
    disk = (
        f"~{format_bytes(row.cost.disk_bytes)}"
        if row.measured_disk_bytes is None
        else format_bytes(row.measured_disk_bytes)
    )
    return [
        "n/a" if row.bits_per_byte is None else f"{mark}{row.bits_per_byte:.4f}",
        "n/a" if row.accuracy is None else f"{row.accuracy:.3f}",
        disk,
        _amount(row.measured_peak_bytes, row.cost.peak_rss_bytes, format_bytes),
        _amount(row.measured_decode_s, row.cost.decode_s, format_seconds),
        row.fits.replace("_", " ") + (f" ({', '.join(row.missed)})" if row.missed else ""),
    ]


def _amount(measured: float | None, predicted: Estimate, show: object) -> str:
    """What was measured, otherwise the prediction with its range."""
    assert callable(show)
    if measured is not None:
        return str(show(measured))
    text = f"~{show(predicted.value)}"
    if predicted.value is None or predicted.low is None or predicted.high is None:
        return text
    return f"{text} ({show(predicted.low)} to {show(predicted.high)})"
