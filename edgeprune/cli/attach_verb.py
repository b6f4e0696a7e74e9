"""`edgeprune attach ID`: a job's history, then what happens, until it is over."""

import click

from edgeprune.cli.diagnostics import TerminalProgress, note
from edgeprune.cli.job_text import job_argument, job_text
from edgeprune.cli.options import json_option
from edgeprune.cli.output import write_raw, write_text
from edgeprune.errors import ExitCode
from edgeprune.schema.jobs import StateChange, kind_of

__all__ = ["command"]


@click.command("attach")
@job_argument
@click.option("--log", "shows_log", is_flag=True, help="Print what the job's processes wrote to stderr instead.")
@json_option
def command(job_id: str, shows_log: bool, as_json: bool) -> int:
    """Replay a job's events on stderr and follow it; its result goes to stdout with --json.

    Ends with the exit code the verb itself would have had; 4 when the job was interrupted. Ctrl-C lets go of the job,
    which goes on, and ends with 0.
    """
    from edgeprune.jobs.client import connect

    client = connect()
    progress = TerminalProgress()
    try:
        if shows_log:
            write_text(client.log(job_id))
            return 0
        job = client.job(job_id)
        if not job.is_over:
            note(f"job {job_id} ({kind_of(job.request)}) is {job.state}; Ctrl-C lets go of it")
        for entry in client.events(job_id):
            if not isinstance(entry.event, StateChange):
                progress.emit(entry.event)
        progress.close()
        job = client.job(job_id)
        if as_json and job.state == "succeeded":
            write_raw(client.result(job_id))
        elif as_json:
            note(job_text(job))
        else:
            write_text(job_text(job))
        return int(ExitCode.RUNTIME) if job.exit_code is None else job.exit_code
    except KeyboardInterrupt:
        progress.close()
        note(f"let go of job {job_id}, which goes on; edgeprune cancel {job_id} stops it")
        return 0
    finally:
        progress.close()
        client.close()
