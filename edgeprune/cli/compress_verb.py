"""`edgeprune compress RUN` or `edgeprune compress MODEL --technique T --kept F --domain PATH -o DIR`."""

from pathlib import Path

import click

from edgeprune.cli.diagnostics import TerminalProgress
from edgeprune.cli.options import context_option, json_option, output_option, text_options
from edgeprune.cli.output import write_record_json, write_text
from edgeprune.errors import UsageError
from edgeprune.units import parse_fraction

__all__ = ["command"]


@click.command("compress")
@click.argument("source", metavar="RUN|MODEL")
@click.option("--technique", help="One technique alone, such as lowrank, lorp or contextual; auto joins all of them.")
@click.option("--kept", help="Parameters kept / the dense model's, such as 0.8 or 80%.")
@click.option(
    "--no-compensate",
    is_flag=True,
    help="Slice FFN channels and leave the others as they are; for contextual, flap and obs.",
)
@context_option
@text_options
@output_option
@json_option
def command(
    source: str,
    technique: str | None,
    kept: str | None,
    no_compensate: bool,
    context: int | None,
    domain: tuple[Path, ...],
    general: tuple[Path, ...],
    evaluation: tuple[Path, ...],
    questions: Path | None,
    seed: int,
    output: Path | None,
    as_json: bool,
) -> int:
    """Apply a run's recipe, or one technique to a model; writes a Hugging Face folder."""
    from edgeprune import api

    progress = TerminalProgress()
    try:
        if technique is None:
            if kept is not None:
                raise UsageError("--kept goes with --technique; a run's recipe already says what is kept.")
            if no_compensate:
                raise UsageError("--no-compensate goes with --technique; a run's recipe says it of each block.")
            result = api.compress(Path(source), progress=progress)
        else:
            if no_compensate and technique not in ("contextual", "flap", "obs"):
                raise UsageError("--no-compensate is for the techniques contextual, flap and obs; leave it out here.")
            if kept is None or output is None or not domain:
                raise UsageError("--technique needs --kept F, --domain PATH and -o DIR beside it.")
            result = api.compress_with(
                source,
                technique=technique,
                kept_fraction=parse_fraction(kept, what="--kept"),
                domain=domain,
                general=general,
                output=output,
                context=context,
                seed=seed,
                compensate=not no_compensate,
                progress=progress,
            )
    finally:
        progress.close()
    if as_json:
        write_record_json(result)
    else:
        write_text(f"{result.folder}: {result.kept_fraction:.1%} of the parameters kept")
    return 0
