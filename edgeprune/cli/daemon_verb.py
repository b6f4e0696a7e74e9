"""`edgeprune daemon start|stop|status|logs|unit`."""

import time

import click

from edgeprune.cli.diagnostics import note
from edgeprune.cli.options import json_option
from edgeprune.cli.output import write_record_json, write_text
from edgeprune.errors import ExitCode
from edgeprune.units import format_bytes, format_seconds

__all__ = ["command"]


_GUARDS = {
    "scope": "memory of a job by a control group, made by the user's service manager",
    "group": "memory of a job by a control group of the daemon's own",
    "process": "private memory of each process of a job (RLIMIT_DATA); no control group may be made here",
}


@click.group("daemon")
def command() -> None:
    """The daemon: one for each user, started on demand, on a unix socket that only its owner may open.

    It runs what --detach hands over, one job at a time, each in a process of its own.
    """


@command.command("start")
def _start() -> int:
    """Start the daemon; nothing happens when it runs already."""
    from edgeprune.jobs.client import connect, find_daemon

    found = find_daemon()
    client = found or connect()
    try:
        status = client.status()
    finally:
        client.close()
    write_text(f"{'runs already' if found else 'started'}, process {status.pid}, {status.socket}")
    return 0


@command.command("stop")
def _stop() -> int:
    """Stop the daemon; running jobs are interrupted and can be resumed, queued ones wait for the next start."""
    from edgeprune.jobs.client import find_daemon, stop_daemon
    from edgeprune.jobs.places import Places

    client = find_daemon()
    if client is None:
        write_text("no daemon runs")
        return 0
    try:
        status = client.status()
        running = [job.id for job in client.jobs() if job.state in ("running", "cancelling")]
    finally:
        client.close()
    stop_daemon(Places.of_user(), status)
    write_text(f"stopped process {status.pid}")
    for job_id in running:
        note(f"job {job_id} was interrupted; edgeprune resume {job_id} goes on with what is finished")
    return 0


@command.command("status")
@json_option
def _status(as_json: bool) -> int:
    """Say whether the daemon runs, and what of it; 1 when it does not."""
    from edgeprune.jobs.client import find_daemon

    client = find_daemon()
    if client is None:
        note("no daemon runs; edgeprune daemon start starts one")
        return int(ExitCode.NOT_MET)
    try:
        status = client.status()
    finally:
        client.close()
    if as_json:
        write_record_json(status)
        return 0
    since = format_seconds(max(0.0, time.time() - status.started_s))
    write_text(
        f"process  {status.pid}, version {status.version}, up {since}\n"
        f"memory   {format_bytes(status.rss_bytes)}\n"
        f"jobs     {status.running_count} running, {status.queued_count} queued\n"
        f"limits   {_GUARDS.get(status.memory_guard or '', 'not told by this daemon')}\n"
        f"socket   {status.socket}\n"
        f"journal  {status.state_folder}"
    )
    return 0


@command.command("logs")
@click.option("-n", "count", type=click.IntRange(min=1), default=100, show_default=True, help="Last lines to print.")
def _logs(count: int) -> int:
    """Print what the daemon itself had to say; a job's log is `edgeprune attach ID --log`."""
    from edgeprune.jobs.places import Places

    path = Places.of_user().log
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    write_text("\n".join(lines[-count:]) if lines else f"nothing logged yet in {path}")
    return 0


@command.command("unit")
def _unit() -> int:
    """Print a systemd user unit, and say whether jobs end at logout."""
    from edgeprune.jobs.unit import UNIT_NAME, linger_remark, unit_text

    write_text(unit_text())
    note(f"save it as ~/.config/systemd/user/{UNIT_NAME}, then: systemctl --user enable --now {UNIT_NAME}")
    note(linger_remark())
    return 0
