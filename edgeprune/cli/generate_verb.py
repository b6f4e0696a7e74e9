"""`edgeprune generate BUNDLE --prompt TEXT`: the bundle goes on, streamed."""

import sys
from collections.abc import Callable
from pathlib import Path

import click

from edgeprune.cli.diagnostics import note
from edgeprune.cli.options import bundle_argument, json_option, runtime_options, sampling_options
from edgeprune.cli.output import write_piece, write_record_json
from edgeprune.schema.generation import Sampling
from edgeprune.units import format_seconds

__all__ = ["command"]


@click.command("generate")
@bundle_argument
@click.option("--prompt", help="Text to go on from (default: standard input).")
@sampling_options
@runtime_options
@json_option
def command(bundle: Path, prompt: str | None, sampling: Sampling, threads: int | None, ep: str, as_json: bool) -> int:
    """Continue a text with a bundle; greedy unless a temperature is given."""
    from edgeprune import api

    text = sys.stdin.read() if prompt is None else prompt
    told: Callable[[str], None] = _hide if as_json else write_piece
    made = api.generate(bundle, text, sampling, execution_provider=ep, thread_count=threads, told=told)
    if as_json:
        write_record_json(made)
        return 0
    write_piece("\n")
    speed = "" if made.decode_s is None else f", {format_seconds(made.decode_s)} a token"
    note(f"{made.completion_tokens} tokens, ended by {made.finish_reason}{speed}")
    return 0


def _hide(text: str) -> None:
    """With --json, the text comes in the record."""
