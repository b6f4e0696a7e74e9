"""A job in words, its id as people may write it, and the flag that hands work to the daemon."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from edgeprune.cli.diagnostics import note
from edgeprune.cli.output import table, write_record_json, write_text
from edgeprune.jobs.paths import place_output
from edgeprune.schema.jobs import Job, JobRequest, kind_of
from edgeprune.units import format_fraction, format_seconds

if TYPE_CHECKING:
    from edgeprune.jobs.daemon_client import DaemonClient

__all__ = ["change_job", "detach_option", "hand_over", "job_argument", "job_table", "job_text", "place_output"]

detach_option = click.option(
    "--detach", "detaches", is_flag=True, help="Hand the work to the daemon, print the job's id, and return."
)


def _read_id(context: click.Context, parameter: click.Parameter, text: str) -> str:
    """`7` for `j00007`."""
    return f"j{int(text):05d}" if text.isascii() and text.isdigit() and len(text) < 12 else text


job_argument = click.argument("job_id", metavar="ID", callback=_read_id)


def hand_over(request: JobRequest, *, as_json: bool) -> int:
    """Submit a request to the daemon, which is started when it does not run; prints the job's id, or its record."""
    from edgeprune.jobs.client import connect  # httpx takes longer to load than most verbs

    client = connect()
    try:
        job = client.submit(request)
    finally:
        client.close()
    if as_json:
        write_record_json(job)
    else:
        write_text(job.id)
    note(f"{kind_of(request)} is {job.state} as job {job.id}; edgeprune attach {job.id} follows it")
    return 0


def change_job(change: Callable[["DaemonClient"], Job], *, as_json: bool) -> int:
    """Ask the daemon to change one job, and print what it is now."""
    from edgeprune.jobs.client import connect

    client = connect()
    try:
        job = change(client)
    finally:
        client.close()
    if as_json:
        write_record_json(job)
    else:
        write_text(job_text(job))
    return 0


def job_table(jobs: list[Job]) -> str:
    """All jobs, the last first."""
    now = time.time()
    head = ["job", "work", "state", "stage", "done", "took", "run folder, or why"]
    rows = [
        [
            job.id,
            kind_of(job.request),
            job.state,
            job.stage or "-",
            "-" if job.done_fraction is None else format_fraction(job.done_fraction),
            _took(job, now),
            (job.error or job.run_folder or "-") if job.state != "succeeded" else job.run_folder or "-",
        ]
        for job in reversed(jobs)
    ]
    return table(head, rows)


def job_text(job: Job) -> str:
    """One job in a line or two."""
    lines = [f"job {job.id} ({kind_of(job.request)}): {job.state}"]
    if job.exit_code is not None:
        lines[0] += f", exit code {job.exit_code}"
    if job.error:
        lines.append(job.error)
    if job.run_folder:
        lines.append(f"everything is in {job.run_folder}")
    return "\n".join(lines)


def _took(job: Job, now_s: float) -> str:
    if job.started_s is None:
        return "-"
    return format_seconds((job.finished_s if job.finished_s is not None else now_s) - job.started_s)
