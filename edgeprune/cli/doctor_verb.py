"""`edgeprune doctor`: what this installation can do."""

import click

from edgeprune.cli.options import json_option
from edgeprune.cli.output import write_record_json, write_text
from edgeprune.jobs.exit_code import exit_code_of
from edgeprune.schema.doctor import DoctorReport, FamilyStatus

__all__ = ["command"]


@click.command("doctor")
@click.option("--families", is_flag=True, help="List the architectures that are supported, and why others are not.")
@json_option
def command(families: bool, as_json: bool) -> int:
    """Check runtime, extras and disk; each fault comes with the one command that mends it."""
    from edgeprune import api

    report = api.doctor(with_families=families)
    if as_json:
        write_record_json(report)
    else:
        write_text(_text(report))
    return int(exit_code_of(report))


def _text(report: DoctorReport) -> str:
    lines = []
    for check in report.checks:
        lines.append(f"{check.status:<8} {check.name}: {check.detail}")
        if check.command is not None:
            lines.append(f"         run: {check.command}")
    if report.families:
        rows = [[item.model_type, item.status, _explained(item)] for item in report.families]
        width = max(len(row[0]) for row in rows)
        lines.extend(f"{row[0]:<{width}}  {row[1]:<9}  {row[2]}" for row in rows)
    return "\n".join(lines)


def _explained(item: FamilyStatus) -> str:
    """Why it is refused; or the family, what builds its graph, and why not the first engine."""
    if item.status == "refused":
        return item.reason
    engine = "graph by mobius" if item.engine == "mobius" else "graph wired by EdgePrune"
    return f"family {item.family}, {engine}" + (f": {item.reason}" if item.reason else "")
