"""`edgeprune serve BUNDLE`: OpenAI's completions on loopback or a unix socket."""

from pathlib import Path

import click

from edgeprune.cli.diagnostics import note
from edgeprune.cli.options import bundle_argument, runtime_options

__all__ = ["command"]


@click.command("serve")
@bundle_argument
@click.option("--port", type=click.IntRange(0, 65535), help="On 127.0.0.1; 0 takes a free one (default 8080).")
@click.option("--socket", "socket_path", type=click.Path(path_type=Path), help="A unix socket instead, mode 0600.")
@runtime_options
def command(bundle: Path, port: int | None, socket_path: Path | None, threads: int | None, ep: str) -> int:
    """Serve /v1/chat/completions and /v1/completions until interrupted; reachable from this machine alone."""
    from edgeprune import api

    api.serve(
        bundle,
        port=port,
        socket_path=socket_path,
        execution_provider=ep,
        thread_count=threads,
        ready=lambda address: note(f"serving {bundle} on {address}"),
    )
    return 0
