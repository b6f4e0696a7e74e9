"""`edgeprune laser MODEL --questions FILE`: truncated matrices that answer more questions."""

from pathlib import Path

import click
from msgspec import convert

from edgeprune.cli.diagnostics import TerminalProgress
from edgeprune.cli.job_text import detach_option, hand_over, place_output
from edgeprune.cli.options import context_option, json_option, output_option
from edgeprune.cli.output import write_record_json, write_text
from edgeprune.jobs.exit_code import exit_code_of
from edgeprune.schema.jobs import LaserJob, LaserSearch
from edgeprune.schema.laser import LaserPrior
from edgeprune.schema.run import LaserOutcome
from edgeprune.units import parse_fraction

__all__ = ["command"]

_PRIORS: dict[LaserPrior, str] = {
    "marchenko_pastur": "the Marchenko-Pastur edge of the noise",
    "gavish_donoho": "the Gavish-Donoho threshold of the noise",
    "gradient": "the gradient of the loss",
}


@click.command("laser")
@click.argument("model")
@click.option(
    "--questions",
    required=True,
    type=click.Path(path_type=Path),
    help="JSON lines: prompt, choices, answer. A fifth of them selects, the rest is reported on.",
)
@click.option(
    "--search",
    type=click.Choice(["fast", "grid", "compose"]),
    default="fast",
    show_default=True,
    help="fast: a gradient orders the published grid, few are tried; grid: all of it; compose: several together.",
)
@click.option("--domain", multiple=True, type=click.Path(path_type=Path), help="Text whose loss --max-loss limits.")
@click.option("--max-loss", help="Rise of the loss on --domain beyond which an edit is rejected, such as 0.02 or 2%.")
@context_option
@output_option
@detach_option
@json_option
def command(
    model: str,
    questions: Path,
    search: str,
    domain: tuple[Path, ...],
    max_loss: str | None,
    context: int | None,
    output: Path | None,
    detaches: bool,
    as_json: bool,
) -> int:
    """Layer-selective rank reduction (LASER): which single matrices to truncate by plain SVD.

    It is an edit for accuracy, hardly for size. Exits with 1 when no truncation beats the dense model.
    """
    from edgeprune import api

    allowed = None if max_loss is None else parse_fraction(max_loss, what="--max-loss")
    if detaches:
        runs, name = place_output(output)
        request = LaserJob(
            model=model,
            questions=str(questions),
            search=convert(search, LaserSearch),
            domain=tuple(map(str, domain)),
            max_loss=allowed,
            runs=runs,
            output=name,
            context_tokens=context,
        )
        return hand_over(request, as_json=as_json)
    progress = TerminalProgress()
    try:
        outcome = api.laser(
            model,
            questions=questions,
            search=search,
            domain=domain,
            max_loss=allowed,
            output=output,
            context=context,
            progress=progress,
        )
    finally:
        progress.close()
    if as_json:
        write_record_json(outcome)
    else:
        write_text(_text(outcome))
    return int(exit_code_of(outcome))


def _text(outcome: LaserOutcome) -> str:
    found, report = outcome.laser, outcome.laser.report
    asked = f"{found.evaluations:.1f} times the {found.selection_count} selection questions"
    if not found.sites:
        return f"No truncation answers more than the dense model ({found.dense_accuracy:.1%}; asked {asked})."
    edits = ", ".join(f"{site} at rank {rank}" for site, rank in zip(found.sites, found.ranks, strict=True))
    low, high = report.accuracy_change_low, report.accuracy_change_high
    lines = [f"{edits} (asked {asked})"]
    if proposed := [_PRIORS[prior] for prior in found.priors if prior is not None]:
        lines.append(f"proposed by {', '.join(dict.fromkeys(proposed))}")
    lines.append(
        f"on {report.question_count} other questions: accuracy {report.dense_accuracy:.1%} -> {report.accuracy:.1%} "
        f"(change {low:+.1%} to {high:+.1%}), log-loss {report.dense_log_loss:.3f} -> {report.log_loss:.3f} nats"
    )
    if outcome.folder is not None:
        lines.append(f"written to {outcome.folder}")
    return "\n".join(lines)
