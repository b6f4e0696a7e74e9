"""`edgeprune demo`: move the budget on the demo model, solve again, and measure its int4 bundle here."""

import click

from edgeprune.cli.diagnostics import TerminalProgress, note
from edgeprune.cli.limit_text import limit_use_text
from edgeprune.cli.options import budget_options, context_option, json_option, threads_option
from edgeprune.cli.output import table, write_record_json, write_text
from edgeprune.jobs.exit_code import exit_code_of
from edgeprune.schema.budget import BudgetRequest
from edgeprune.schema.candidate import Candidate, SearchResult
from edgeprune.schema.demo import DemoFigure, DemoReport
from edgeprune.schema.measurement import ValidationReport
from edgeprune.units import format_bytes, format_seconds

__all__ = ["command"]

_NAMES = {
    "disk_bytes": "disk",
    "peak_rss_bytes": "peak memory",
    "model_memory_bytes": "of that model",
    "decode_s": "per token",
}
_MARKS = {"estimated": "~", "config": "*"}


@click.command("demo")
@click.option("--device", help="Saved or shipped profile, or a path (default: measure this device quickly).")
@click.option("--no-validate", is_flag=True, help="Solve only; measure nothing of the shipped bundle.")
@budget_options
@context_option
@threads_option
@json_option
def command(
    device: str | None,
    no_validate: bool,
    budget: BudgetRequest | None,
    context: int | None,
    threads: int | None,
    as_json: bool,
) -> int:
    """Solve the demo for the default budget and the limits given, and measure its int4 bundle on this device.

    Needs no torch. The demo is a very small model of a made-up world; its figures say nothing about a real model. With
    a saved profile (edgeprune profile --save NAME), demo --device NAME --no-validate answers at once.
    """
    from edgeprune import api

    progress = TerminalProgress()
    try:
        report = api.demo(
            device=device,
            budget=budget,
            context=context,
            validates=not no_validate,
            thread_count=threads,
            progress=progress,
        )
    finally:
        progress.close()
    if as_json:
        write_record_json(report)
    else:
        write_text(_text(report))
    result = report.asked or report.default
    if result is not None and result.chosen is None:
        note(f"edgeprune: {result.infeasible.message if result.infeasible else 'no recipe meets the budget.'}")
    return int(exit_code_of(report))


def _text(report: DemoReport) -> str:
    parts = [report.notice]
    if report.default is not None:
        parts.append(_search_text("default budget", report.default))
    if report.asked is not None:
        parts.append(_search_text("your budget", report.asked))
    parts.append(_figures_text(report))
    parts += report.notes
    if report.validation is not None:
        parts.append(_checks_text(report.validation))
    times = ", ".join(f"{step} {format_seconds(seconds)}" for step, seconds in report.took_s.items())
    parts.append(f"verdict: {report.verdict}\ntook: {times}")
    return "\n\n".join(parts)


def _search_text(title: str, result: SearchResult) -> str:
    chosen = None if result.chosen is None else result.chosen.recipe
    plain = (result.dense, *result.baselines)
    others = [entry for entry in result.front if entry.recipe not in [known.recipe for known in plain]]
    rows = [
        [
            ("* " if entry.recipe == chosen else "  ") + entry.label,
            format_bytes(entry.cost.disk_bytes),
            format_bytes(entry.cost.peak_rss_bytes.value),
            format_seconds(entry.cost.decode_s.value),
            f"{entry.relative_loss:+.1%}",
        ]
        for entry in (*plain, *others)
    ]
    heading = f"{title}, on {result.device_name}, context {result.context_tokens}"
    lines = [heading, table(["all predicted", "disk", "peak memory", "per token", "loss"], rows)]
    lines.append("nothing fits" if result.chosen is None else f"* {_edits(result.chosen)}")
    lines += [limit_use_text(use) for use in result.uses]
    lines += [f"note: {sentence}" for sentence in result.notes]
    return "\n".join(lines)


def _edits(entry: Candidate) -> str:
    """What a recipe does, in a line."""
    recipe = entry.recipe
    kernels: dict[str, int] = {}
    for site in recipe.sites:
        kernels[site.kernel] = kernels.get(site.kernel, 0) + 1
    parts = [f"drops blocks {', '.join(map(str, recipe.drop_blocks))}"] if recipe.drop_blocks else []
    if recipe.keep_tokens is not None:
        parts.append(f"keeps {recipe.keep_tokens.kept_count:,} tokens")
    if recipe.keep_groups:
        parts.append(f"keeps fewer key-value groups in {len(recipe.keep_groups)} blocks")
    if recipe.keep_channels:
        parts.append(f"narrows {len(recipe.keep_channels)} FFNs")
    ranks = sum(site.rank is not None for site in recipe.sites)
    if ranks:
        parts.append(f"factors {ranks} sites")
    parts += [f"{kernel} on {count} sites" for kernel, count in sorted(kernels.items())]
    return f"{entry.label}: {'; '.join([*parts, f'tables {recipe.table_kernel}'])}"


def _figures_text(report: DemoReport) -> str:
    rows = [
        [
            _name(figure.name),
            _MARKS.get(figure.dense_basis, "") + _value(figure, figure.dense),
            _value(figure, figure.predicted),
            _value(figure, figure.measured) + _interval(figure),
            "" if figure.relative_error is None else f"{figure.relative_error:+.1%}",
        ]
        for figure in report.figures
    ]
    header = ["the shipped int4 bundle", "dense (~ estimated, * from files)", "predicted", "measured here", "error"]
    return table(header, rows)


def _checks_text(validation: ValidationReport) -> str:
    """Whether the shipped bundle computes here what torch computed when it was made."""
    missed = [check for check in validation.checks if check.verdict != "met"]
    failures = [failure for entry in validation.measurements for failure in entry.failures]
    if not missed and not failures:
        return "The bundle computes here what torch computed when it was made."
    lines = [
        f"{check.quantity}, {check.unit}: {'not measured' if check.measured is None else f'{check.measured:.3g}'}, "
        f"limit {check.limit:.3g}: {check.verdict}"
        for check in missed
    ]
    return "\n".join([*lines, *failures])


def _name(name: str) -> str:
    kind, _, part = name.partition(".")
    return {"bits_per_byte": f"bits/byte, {part}", "accuracy": f"accuracy, {part} facts"}.get(
        kind, _NAMES.get(name, name)
    )


def _value(figure: DemoFigure, value: float | None) -> str:
    if value is None:
        return "n/a"
    if figure.unit == "bytes":
        return format_bytes(value)
    if figure.unit == "s":
        return format_seconds(value)
    return f"{value:.4f}" if figure.unit == "bits" else f"{value:.3f}"


def _interval(figure: DemoFigure) -> str:
    return "" if figure.low is None or figure.high is None else f" ({figure.low:.2f} to {figure.high:.2f})"
