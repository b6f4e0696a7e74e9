"""`open_executor`: the executor that the flags `--workers` and `--cluster` ask for."""

from edgeprune.errors import UsageError
from edgeprune.runtime.executor.inline import InlineExecutor
from edgeprune.runtime.executor.processes import ProcessExecutor
from edgeprune.runtime.executor.protocol import Executor

__all__ = ["open_executor"]


def open_executor(*, workers: int = 1, cluster: str | None = None, thread_count: int | None = None) -> Executor:
    """Where pieces of work will run.

    Args:
        workers: 1 runs in this process, more in child processes of this machine.
        cluster: address of a Dask scheduler, such as `tcp://host:8786`; its own workers do the work then.
        thread_count: OpenMP and BLAS threads of each child process; None shares the usable cores among them.

    Raises:
        UsageError: fewer than one worker, or workers and a cluster together.
        ProtocolError: the cluster cannot be reached, or is not one that can do the work.
    """
    if workers < 1:
        raise UsageError(f"--workers {workers} leaves nobody to work; give at least 1.")
    if cluster is not None:
        if workers != 1:
            raise UsageError("--workers and --cluster exclude each other: a cluster has its own workers.")
        from edgeprune.runtime.executor.cluster import ClusterExecutor  # Dask: an extra, and half a second

        return ClusterExecutor(cluster)
    if workers == 1:
        return InlineExecutor()
    return ProcessExecutor(workers, thread_count=thread_count)
