"""`edgeprune export RUN`: write the ONNX bundles."""

from pathlib import Path
from typing import Literal

import click

from edgeprune.cli.diagnostics import TerminalProgress
from edgeprune.cli.job_text import detach_option, hand_over
from edgeprune.cli.options import json_option, kv_bits_option, run_argument
from edgeprune.cli.output import write_record_json, write_text
from edgeprune.schema.jobs import ExportJob
from edgeprune.units import format_bytes

__all__ = ["command"]


@click.command("export")
@run_argument
@kv_bits_option
@detach_option
@json_option
def command(run_folder: Path, kv_bits: str | None, detaches: bool, as_json: bool) -> int:
    """Export the compressed model of a run, and the bundles it is compared with.

    With --kv-bits the recipe's own is written anew first.
    """
    from edgeprune import api

    bits: Literal[8, 32] | None = None if kv_bits is None else 8 if kv_bits == "8" else 32
    if detaches:
        return hand_over(ExportJob(run=str(run_folder), kv_bits=bits), as_json=as_json)
    progress = TerminalProgress()
    try:
        manifest = api.export(run_folder, kv_bits=bits, progress=progress)
    finally:
        progress.close()
    if as_json:
        write_record_json(manifest)
    else:
        size = sum(file.size_bytes for file in manifest.files if not file.path.startswith("eval/"))
        write_text(f"{run_folder / 'bundle'}: {format_bytes(size)}")
    return 0
