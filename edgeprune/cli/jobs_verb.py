"""`edgeprune jobs`: what the daemon has done, does and will do."""

import click

from edgeprune.cli.job_text import job_table
from edgeprune.cli.options import json_option
from edgeprune.cli.output import write_record_json, write_text
from edgeprune.schema.jobs import JobList

__all__ = ["command"]


@click.command("jobs")
@json_option
def command(as_json: bool) -> int:
    """List jobs, the last submitted first; the daemon is started when it does not run."""
    from edgeprune.jobs.client import connect

    client = connect()
    try:
        jobs = client.jobs()
    finally:
        client.close()
    if as_json:
        write_record_json(JobList(jobs=tuple(jobs)))
    else:
        write_text(job_table(jobs) if jobs else "no job; --detach on a verb such as run hands one over")
    return 0
