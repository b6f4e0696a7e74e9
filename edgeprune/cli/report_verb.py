"""`edgeprune report RUN`: render the report again."""

from pathlib import Path

import click

from edgeprune.cli.options import json_option, run_argument
from edgeprune.cli.output import write_record_json, write_text
from edgeprune.jobs.exit_code import exit_code_of

__all__ = ["command"]


@click.command("report")
@run_argument
@json_option
def command(run_folder: Path, as_json: bool) -> int:
    """Render report.json, report.md and report.html from a run's records; prints the Markdown."""
    from edgeprune import api

    report = api.report(run_folder)
    if as_json:
        write_record_json(report)
    else:
        write_text((run_folder / "report.md").read_text(encoding="utf-8"))
    return int(exit_code_of(report))
