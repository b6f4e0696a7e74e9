"""`edgeprune cancel ID`: take a job off the queue, or stop it."""

import click

from edgeprune.cli.job_text import change_job, job_argument
from edgeprune.cli.options import json_option

__all__ = ["command"]


@click.command("cancel")
@job_argument
@json_option
def command(job_id: str, as_json: bool) -> int:
    """Cancel a job; finished stages are kept, and `resume` goes on with them."""
    return change_job(lambda client: client.cancel(job_id), as_json=as_json)
