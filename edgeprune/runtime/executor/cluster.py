"""`ClusterExecutor`: the workers of a Dask cluster.

What crosses is a function of ours by name, its payload and its reply, as bytes. Payloads carry paths, so the workers
must see the run folder and the model under the same paths: a shared disk, or one machine. Dask itself unpickles what
its connections bring: join only clusters whose every member you trust.
"""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from edgeprune.errors import DeviceError, ProtocolError
from edgeprune.runtime.executor.tasks import Reply, perform_encoded, result_of, task_versions

__all__ = ["ClusterExecutor"]

_CONNECT_S = 10.0


class ClusterExecutor:
    """Runs tasks on a cluster that is already up; Dask gives the task of a worker that died to another."""

    def __init__(self, address: str, *, timeout_s: float = _CONNECT_S) -> None:
        """Connect.

        Args:
            address: of the scheduler, such as `tcp://host:8786`.
            timeout_s: how long to try.

        Raises:
            ProtocolError: Dask is not installed, nobody answers, what answers is no scheduler, or it has no workers.
        """
        try:
            import distributed  # an extra: half a second, and absent from a base install
        except ModuleNotFoundError as error:
            raise ProtocolError(
                f"--cluster needs {error.name}, which is not installed; pip install 'edgeprune[cluster]'."
            ) from error
        # Lost workers and closed connections are told by our own sentences; below this Dask writes to stderr itself.
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        self._address = address
        self.worker_count = _count_workers(address, timeout_s)
        try:
            self._client: Any = distributed.Client(
                address, timeout=timeout_s, set_as_default=False, name="edgeprune", direct_to_workers=False
            )
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            raise _unreachable(address, error) from error

    def run(self, function: str, payloads: Sequence[bytes]) -> Iterator[tuple[int, bytes]]:
        """Run one function over every payload, see `Executor.run`."""
        import distributed

        if not payloads:
            return
        versions = task_versions()
        futures = [
            # Not pure: Dask must not take a finished result of an earlier run for this one.
            self._client.submit(perform_encoded, function, payload, versions, pure=False)
            for payload in payloads
        ]
        index_of = {future.key: index for index, future in enumerate(futures)}
        try:
            for future, outcome in distributed.as_completed(
                futures, loop=self._client.loop, with_results=True, raise_errors=False
            ):
                if future.status != "finished":
                    raise self._failure(function, future.status, outcome)
                yield index_of[future.key], result_of(msgspec.msgpack.decode(outcome, type=Reply))
                future.release()
        finally:
            if self._client.status == "running":
                self._client.cancel(futures, force=True)

    def close(self) -> None:
        """Leave the cluster, which stays up."""
        self._client.close()

    def _failure(self, function: str, status: str, outcome: object) -> DeviceError | ProtocolError:
        from distributed.scheduler import KilledWorker

        error = outcome[1] if isinstance(outcome, tuple) and len(outcome) > 1 else outcome
        if isinstance(error, KilledWorker):
            return DeviceError(
                f"{function} ended every worker it was given to on the cluster {self._address}; if memory is short "
                "there, give each worker more."
            )
        if isinstance(error, ModuleNotFoundError):
            return ProtocolError(
                f"A worker of the cluster {self._address} lacks {error.name}; "
                "pip install 'edgeprune[compress,cluster]' there."
            )
        if status == "error":
            return ProtocolError(f"The cluster {self._address} could not run {function}: {_line(error)}.")
        return ProtocolError(
            f"The cluster {self._address} was lost; finished work is kept, start it again and repeat the command."
        )


def _count_workers(address: str, timeout_s: float) -> int:
    """Ask the scheduler who works for it, before a client is made: one that never connected cannot be closed quietly.

    Raises:
        ProtocolError: nobody answers, it is no scheduler, or it has no workers.
    """
    try:
        identity = asyncio.run(_identity(address, timeout_s))
    except (OSError, ValueError, TypeError, RuntimeError, asyncio.TimeoutError) as error:
        raise _unreachable(address, error) from error
    if identity.get("type") != "Scheduler":
        raise ProtocolError(f"What answers at {address} is no Dask scheduler; give the address a scheduler prints.")
    count = identity.get("n_workers", len(identity.get("workers", ())))
    if not count:
        raise ProtocolError(f"The cluster {address} has no workers; start some with `dask worker {address}`.")
    return int(count)


async def _identity(address: str, timeout_s: float) -> dict[str, Any]:
    from distributed import Security
    from distributed.core import rpc

    connection_args = Security().get_connection_args("client")  # from Dask's own configuration
    async with rpc(address, timeout=timeout_s, connection_args=connection_args) as scheduler:
        # Workers register a moment after the scheduler answers.
        waited_s = 0.0
        while True:
            found: dict[str, Any] = await asyncio.wait_for(scheduler.identity(), timeout_s)
            if found.get("workers") or found.get("type") != "Scheduler" or waited_s >= timeout_s:
                return found
            await asyncio.sleep(0.1)
            waited_s += 0.1


def _unreachable(address: str, error: BaseException) -> ProtocolError:
    return ProtocolError(f"The cluster at {address!r} cannot be reached ({_line(error)}); check --cluster.")


def _line(error: object) -> str:
    return " ".join(str(error).split()) or type(error).__name__
