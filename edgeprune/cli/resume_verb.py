"""`edgeprune resume ID`: queue a job again that did not succeed."""

import click

from edgeprune.cli.job_text import change_job, job_argument
from edgeprune.cli.options import json_option

__all__ = ["command"]


@click.command("resume")
@job_argument
@json_option
def command(job_id: str, as_json: bool) -> int:
    """Queue an interrupted, cancelled or failed job again; what is finished in its run folder is not repeated."""
    return change_job(lambda client: client.resume(job_id), as_json=as_json)
