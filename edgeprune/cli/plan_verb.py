"""`edgeprune plan MODEL...`: what would fit, from headers only."""

import click

from edgeprune.cli.diagnostics import TerminalProgress
from edgeprune.cli.options import budget_options, context_option, json_option, runtime_options
from edgeprune.cli.output import table, write_record_json, write_text
from edgeprune.jobs.exit_code import exit_code_of
from edgeprune.schema.budget import BudgetRequest
from edgeprune.schema.estimate import Estimate
from edgeprune.schema.plan import PlanReport
from edgeprune.units import format_bytes, format_seconds

__all__ = ["command"]


@click.command("plan")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option("--device", help="Saved or shipped profile, or a path (default: measure this device quickly).")
@budget_options
@context_option
@runtime_options
@json_option
def command(
    models: tuple[str, ...],
    device: str | None,
    budget: BudgetRequest | None,
    context: int | None,
    threads: int | None,
    ep: str,
    as_json: bool,
) -> int:
    """Price each model at 32, 8 and 4 bits and say what fits the device or the limits given."""
    from edgeprune import api

    progress = TerminalProgress()
    try:
        report = api.plan(
            models, device=device, budget=budget, context=context, thread_count=threads, progress=progress
        )
    finally:
        progress.close()
    if as_json:
        write_record_json(report)
    else:
        write_text(_text(report))
    return int(exit_code_of(report))


def _text(report: PlanReport) -> str:
    rows = [
        [
            row.model,
            row.precision,
            f"{row.parameter_count / 1e6:.1f} M",
            format_bytes(row.cost.disk_bytes),
            _with_range(row.cost.peak_rss_bytes, format_bytes),
            _with_range(row.cost.decode_s, format_seconds),
            row.fits + (f" ({', '.join(row.binding)})" if row.binding else ""),
        ]
        for row in report.rows
    ]
    head = ["model", "precision", "parameters", "disk", "peak memory", "per token", "fits"]
    return f"{report.device_name}, context {report.context_tokens}\n" + table(head, rows)


def _with_range(estimate: Estimate, show: object) -> str:
    assert callable(show)
    text = str(show(estimate.value))
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return text
    return f"{text} ({show(estimate.low)} to {show(estimate.high)})"
