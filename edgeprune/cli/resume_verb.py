"""`edgeprune resume ID`: queue a job again that did not succeed."""

import click

from edgeprune.cli.job_text import job_argument, job_text
from edgeprune.cli.options import json_option
from edgeprune.cli.output import write_record_json, write_text

__all__ = ["command"]


@click.command("resume")
@job_argument
@json_option
def command(job_id: str, as_json: bool) -> int:
    """Queue an interrupted, cancelled or failed job again; what is finished in its run folder is not repeated."""
    from edgeprune.jobs.client import connect

    client = connect()
    try:
        job = client.resume(job_id)
    finally:
        client.close()
    if as_json:
        write_record_json(job)
    else:
        write_text(job_text(job))
    return 0
