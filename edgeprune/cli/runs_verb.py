"""`edgeprune runs list|rm`: run folders, and removing them."""

from pathlib import Path

import click

from edgeprune.cli.options import json_option
from edgeprune.cli.output import table, write_record_json, write_text
from edgeprune.errors import UsageError
from edgeprune.schema.run_list import RunList
from edgeprune.units import format_bytes

__all__ = ["command"]

_folder = click.option(
    "--in",
    "folder",
    type=click.Path(path_type=Path),
    default=Path("edgeprune-runs"),
    show_default=True,
    help="Folder that holds the runs.",
)


@click.group("runs")
def command() -> None:
    """Run folders in one place."""


@command.command("list")
@_folder
@json_option
def _list(folder: Path, as_json: bool) -> int:
    """Which runs there are, the last finished first."""
    from edgeprune import api

    found = api.list_runs(folder)
    if as_json:
        write_record_json(found)
    else:
        write_text(_text(found) if found.runs else f"no run in {folder}")
    return 0


@command.command("rm")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@_folder
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def _remove(names: tuple[str, ...], folder: Path, yes: bool, as_json: bool) -> int:
    """Delete runs with everything in them."""
    from edgeprune import api

    if not yes and not click.confirm(f"Delete {', '.join(names)} in {folder} for good?", err=True):
        raise UsageError("Nothing was removed; answer y, or give --yes.")
    removed = api.remove_runs(folder, names)
    if as_json:
        write_record_json(removed)
    else:
        freed = sum(entry.size_bytes for entry in removed.runs)
        write_text(f"removed {', '.join(entry.name for entry in removed.runs)}: {format_bytes(freed)}")
    return 0


def _text(found: RunList) -> str:
    rows = [
        [
            entry.name,
            entry.model or "the demo",
            entry.verdict or "n/a",
            format_bytes(entry.size_bytes),
            entry.stages[-1] if entry.stages else "n/a",
            (entry.finished_at or "n/a")[:16].replace("T", " "),
        ]
        for entry in found.runs
    ]
    return table(["run", "model", "verdict", "size", "last stage", "finished (UTC)"], rows)
