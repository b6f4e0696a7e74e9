"""`edgeprune export RUN`: write the ONNX bundles; `edgeprune export MODEL --recipe FILE`: one, block by block."""

from pathlib import Path
from typing import Literal

import click

from edgeprune.cli.diagnostics import TerminalProgress
from edgeprune.cli.job_text import detach_option, hand_over
from edgeprune.cli.options import (
    activations_option,
    context_option,
    host_memory_option,
    json_option,
    kv_bits_option,
    last_logits_option,
    output_option,
)
from edgeprune.cli.output import write_record_json, write_text
from edgeprune.errors import UsageError
from edgeprune.schema.bundle import BundleManifest
from edgeprune.schema.jobs import ExportJob
from edgeprune.units import format_bytes

__all__ = ["command"]

_path = click.Path(path_type=Path)


@click.command("export")
@click.argument("source", metavar="RUN|MODEL")
@kv_bits_option
@last_logits_option
@activations_option
@click.option("--recipe", type=_path, help="Apply this recipe.toml to MODEL, which may be larger than memory.")
@click.option("--domain", multiple=True, type=_path, help="With --recipe: text of the field; repeatable.")
@click.option("--eval", "evaluation", multiple=True, type=_path, help="With --recipe: text to report on.")
@context_option
@host_memory_option
@output_option
@detach_option
@json_option
def command(
    source: str,
    kv_bits: str | None,
    last_logits: bool,
    activations: str | None,
    recipe: Path | None,
    domain: tuple[Path, ...],
    evaluation: tuple[Path, ...],
    context: int | None,
    max_host_memory_bytes: int | None,
    output: Path | None,
    detaches: bool,
    as_json: bool,
) -> int:
    """Export the compressed model of a run, and the bundles it is compared with.

    With --kv-bits the recipe's own is written anew first. With --recipe, a model's folder becomes a bundle without a
    run, block by block, about one matrix in memory at a time.
    """
    from edgeprune import api

    computed: Literal[16, 32] | None = None if activations is None else 16 if activations == "float16" else 32
    if recipe is None:
        if domain or evaluation or context is not None or output is not None or max_host_memory_bytes is not None:
            raise UsageError(
                "--domain, --eval, --context, --max-host-memory and -o go with --recipe FILE; a run has its own."
            )
        bits: Literal[8, 32] | None = None if kv_bits is None else 8 if kv_bits == "8" else 32
        if detaches:
            job = ExportJob(run=source, kv_bits=bits, last_logits=last_logits, activation_bits=computed)
            return hand_over(job, as_json=as_json)
        progress = TerminalProgress()
        try:
            manifest = api.export(
                Path(source), kv_bits=bits, last_logits=last_logits, activation_bits=computed, progress=progress
            )
        finally:
            progress.close()
        return _answer(manifest, Path(source) / "bundle", as_json=as_json)
    if kv_bits is not None or detaches or last_logits:
        raise UsageError(
            "--kv-bits, --last-logits and --detach go with a run; with --recipe write kv_bits = 8 in the recipe."
        )
    if output is None:
        raise UsageError("--recipe needs -o DIR beside it: the folder of the bundle.")
    progress = TerminalProgress()
    try:
        manifest = api.export_by_block(
            source,
            recipe=recipe,
            domain=domain,
            evaluation=evaluation,
            context=context,
            output=output,
            max_host_memory_bytes=max_host_memory_bytes,
            activation_bits=computed or 32,
            progress=progress,
        )
    finally:
        progress.close()
    return _answer(manifest, output, as_json=as_json)


def _answer(manifest: BundleManifest, folder: Path, *, as_json: bool) -> int:
    if as_json:
        write_record_json(manifest)
    else:
        size = sum(file.size_bytes for file in manifest.files if not file.path.startswith("eval/"))
        write_text(f"{folder}: {format_bytes(size)}")
    return 0
