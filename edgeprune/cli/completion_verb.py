"""`edgeprune completion SHELL`: print the completion script."""

import click
from click.shell_completion import get_completion_class

from edgeprune.cli.output import write_text

__all__ = ["command"]


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> int:
    """Print the completion script, such as `eval "$(edgeprune completion bash)"`."""
    from edgeprune.cli.main import app

    completion = get_completion_class(shell)
    assert completion is not None
    write_text(completion(app, {}, "edgeprune", "_EDGEPRUNE_COMPLETE").source())
    return 0
