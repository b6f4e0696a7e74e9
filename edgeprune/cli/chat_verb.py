"""`edgeprune chat BUNDLE`: a conversation in the terminal."""

import sys
from pathlib import Path

import click

from edgeprune.cli.diagnostics import note
from edgeprune.cli.options import bundle_argument, runtime_options, sampling_options
from edgeprune.cli.output import write_piece
from edgeprune.errors import UsageError
from edgeprune.schema.generation import Sampling

__all__ = ["command"]


@click.command("chat")
@bundle_argument
@click.option("--system", help="What the model is told before the first turn.")
@sampling_options
@runtime_options
def command(bundle: Path, system: str | None, sampling: Sampling, threads: int | None, ep: str) -> int:
    """Talk to a bundle, a line a turn; an empty line or the end of the input ends it."""
    from edgeprune import api

    conversation = api.Conversation(bundle, execution_provider=ep, thread_count=threads)
    if not conversation.has_template:
        note("this model has no chat template; it is given a plain transcript of User and Assistant")
    if system is not None:
        conversation.messages.append({"role": "system", "content": system})
    lines = sys.stdin
    is_terminal = lines.isatty()
    while True:
        if is_terminal:
            write_piece("> ")
        line = lines.readline().strip()
        if not line:
            return 0
        try:
            conversation.say(line, sampling, told=write_piece)
        except UsageError as error:
            note(str(error))
            return int(error.exit_code)
        write_piece("\n")
