"""`edgeprune search RUN`: solve again for another budget, without weights and without torch."""

from pathlib import Path

import click

from edgeprune.cli.diagnostics import TerminalProgress, note
from edgeprune.cli.job_text import detach_option, hand_over
from edgeprune.cli.limit_text import limit_use_text
from edgeprune.cli.options import (
    budget_options,
    executor_options,
    json_option,
    lock_option,
    run_argument,
    workload_options,
)
from edgeprune.cli.output import table, write_record_json, write_text
from edgeprune.jobs.exit_code import exit_code_of
from edgeprune.schema.budget import BudgetRequest
from edgeprune.schema.candidate import Candidate, SearchResult
from edgeprune.schema.jobs import SearchJob
from edgeprune.schema.lock import Lock
from edgeprune.units import format_bytes, format_seconds

__all__ = ["command"]


@click.command("search")
@run_argument
@budget_options
@lock_option
@workload_options
@click.option("--evaluations", type=click.IntRange(min=0), help="Also build and measure at most that many recipes.")
@executor_options
@detach_option
@json_option
def command(
    run_folder: Path,
    budget: BudgetRequest | None,
    locks: tuple[Lock, ...] | None,
    context: int | None,
    decode_tokens: int | None,
    evaluations: int | None,
    workers: int,
    cluster: str | None,
    detaches: bool,
    as_json: bool,
) -> int:
    """Solve a run again; limits, or locks, left out altogether keep the run's own (`--lock none` lifts them).

    What recipes built before have taught is used; with --evaluations more are built, which needs torch.
    """
    from edgeprune import api

    if detaches:
        request = SearchJob(
            run=str(run_folder),
            budget=budget,
            context_tokens=context,
            decode_tokens=decode_tokens,
            locks=locks,
            evaluations=evaluations,
            worker_count=workers,
            cluster=cluster,
        )
        return hand_over(request, as_json=as_json)
    progress = TerminalProgress()
    try:
        result = api.search(
            run_folder,
            budget=budget,
            context=context,
            decode_tokens=decode_tokens,
            locks=locks,
            evaluations=evaluations,
            worker_count=workers,
            cluster=cluster,
            progress=progress,
        )
    finally:
        progress.close()
    if as_json:
        write_record_json(result)
    else:
        write_text(_text(result))
    if result.chosen is None:
        note(f"edgeprune: {result.infeasible.message if result.infeasible else 'no recipe meets the budget.'}")
    elif result.predicted == "not_met":
        note("edgeprune: the recipe as a whole is predicted to miss a limit; build more of them with --evaluations.")
    return int(exit_code_of(result))


def _text(result: SearchResult) -> str:
    chosen = None if result.chosen is None else result.chosen.recipe
    rows = [
        [
            ("* " if candidate.recipe == chosen else "  ") + candidate.label,
            format_bytes(candidate.cost.disk_bytes),
            format_bytes(candidate.cost.peak_rss_bytes.value),
            format_seconds(candidate.cost.decode_s.value),
            f"{candidate.relative_loss:+.1%}",
        ]
        for candidate in (result.dense, *(entry for entry in result.front if entry.recipe != result.dense.recipe))
    ]
    lines = [table(["all predicted", "disk", "peak memory", "per token", "loss"], rows)]
    if result.chosen is not None:
        lines.append(_proof(result.chosen))
        lines += [limit_use_text(use) for use in result.uses]
        if result.budget.objective == "request":
            whole, prompt = result.chosen.cost.request_s, result.chosen.cost.prefill_s
            lines.append(f"request: {format_seconds(whole.value)} predicted, its prompt {format_seconds(prompt.value)}")
    lines += [f"note: {sentence}" for sentence in result.notes]
    return "\n".join(lines)


def _proof(chosen: Candidate) -> str:
    gap = chosen.optimality_gap
    proved = "optimality not proved" if gap is None else f"optimality gap {gap:.2%} (proved)"
    if chosen.measured_relative_loss is None:
        return f"chosen: {proved}; {chosen.basis}"
    return (
        f"chosen: {proved}; {chosen.basis}; loss {chosen.measured_relative_loss:+.1%} measured on selection text, "
        f"{chosen.relative_loss:+.1%} predicted"
    )
