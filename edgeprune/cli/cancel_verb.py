"""`edgeprune cancel ID`: take a job off the queue, or stop it."""

import click

from edgeprune.cli.job_text import job_argument, job_text
from edgeprune.cli.options import json_option
from edgeprune.cli.output import write_record_json, write_text

__all__ = ["command"]


@click.command("cancel")
@job_argument
@json_option
def command(job_id: str, as_json: bool) -> int:
    """Cancel a job; finished stages are kept, and `resume` goes on with them."""
    from edgeprune.jobs.client import connect

    client = connect()
    try:
        job = client.cancel(job_id)
    finally:
        client.close()
    if as_json:
        write_record_json(job)
    else:
        write_text(job_text(job))
    return 0
