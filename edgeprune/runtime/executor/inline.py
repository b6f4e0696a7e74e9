"""`InlineExecutor`: pieces of work one after the other, in this process."""

from collections.abc import Iterator, Sequence

from edgeprune.runtime.executor.tasks import resolve

__all__ = ["InlineExecutor"]


class InlineExecutor:
    """Runs in the caller's process and order; errors come up as they are, with their traceback."""

    worker_count = 1

    def run(self, function: str, payloads: Sequence[bytes]) -> Iterator[tuple[int, bytes]]:
        """Run one function over every payload, see `Executor.run`."""
        call = resolve(function)
        for index, payload in enumerate(payloads):
            yield index, call(payload)

    def close(self) -> None:
        """Nothing to end."""
