"""`edgeprune compress RUN` or `edgeprune compress MODEL --technique T --kept F --domain PATH -o DIR`."""

from pathlib import Path

import click

from edgeprune.cli.diagnostics import TerminalProgress
from edgeprune.cli.job_text import detach_option, hand_over, place_output
from edgeprune.cli.options import context_option, json_option, output_option, text_options
from edgeprune.cli.output import write_record_json, write_text
from edgeprune.cli.recover_options import recover_options
from edgeprune.errors import UsageError
from edgeprune.schema.jobs import CompressJob, TechniqueJob
from edgeprune.schema.model import SiteForm
from edgeprune.schema.recovery import RecoveryRequest
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
@click.option(
    "--repair",
    type=int,
    metavar="RANK",
    help="Put an operator of this rank in the place of dropped blocks; for lorp, shortgpt, streamline and sleb.",
)
@click.option(
    "--form",
    type=click.Choice(["pivot", "factors", "shared", "head_rows"]),
    help="How lowrank stores ranks: pivot has the fewest numbers, factors round best, shared are the fewest products; "
    "head_rows leaves few values a head in v and o, and pivots elsewhere.",
)
@recover_options
@context_option
@text_options
@output_option
@detach_option
@json_option
def command(
    source: str,
    technique: str | None,
    kept: str | None,
    no_compensate: bool,
    repair: int | None,
    form: SiteForm | None,
    recovery: RecoveryRequest | None,
    context: int | None,
    domain: tuple[Path, ...],
    general: tuple[Path, ...],
    evaluation: tuple[Path, ...],
    questions: Path | None,
    seed: int,
    output: Path | None,
    detaches: bool,
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
            if repair is not None:
                raise UsageError("--repair goes with --technique; a run's recipe lists its repairs.")
            if form is not None:
                raise UsageError("--form goes with --technique; a run's recipe says it of each site.")
            if detaches:
                return hand_over(CompressJob(run=source, recovery=recovery), as_json=as_json)
            result = api.compress(Path(source), recovery=recovery, progress=progress)
        else:
            if no_compensate and technique not in ("contextual", "flap", "obs"):
                raise UsageError("--no-compensate is for the techniques contextual, flap and obs; leave it out here.")
            if repair is not None and technique not in ("lorp", "shortgpt", "streamline", "sleb"):
                raise UsageError(
                    "--repair is for the techniques lorp, shortgpt, streamline and sleb; leave it out here."
                )
            if form is not None and technique != "lowrank":
                raise UsageError("--form is for the technique lowrank; leave it out here.")
            if kept is None or output is None or not domain:
                raise UsageError("--technique needs --kept F, --domain PATH and -o DIR beside it.")
            if detaches:
                runs, name = place_output(output)
                assert name is not None
                request = TechniqueJob(
                    model=source,
                    technique=technique,
                    kept_fraction=parse_fraction(kept, what="--kept"),
                    domain=tuple(map(str, domain)),
                    general=tuple(map(str, general)),
                    runs=runs,
                    output=name,
                    context_tokens=context,
                    seed=seed,
                    compensate=not no_compensate,
                    repair_rank=repair,
                    rank_form=form,
                    recovery=recovery,
                )
                return hand_over(request, as_json=as_json)
            result = api.compress_with(
                source,
                technique=technique,
                kept_fraction=parse_fraction(kept, what="--kept"),
                domain=domain,
                general=general,
                output=output,
                context=context,
                seed=seed,
                recovery=recovery,
                compensate=not no_compensate,
                repair_rank=repair,
                rank_form=form,
                progress=progress,
            )
    finally:
        progress.close()
    if as_json:
        write_record_json(result)
    else:
        write_text(f"{result.folder}: {result.kept_fraction:.1%} of the parameters kept")
    return 0
