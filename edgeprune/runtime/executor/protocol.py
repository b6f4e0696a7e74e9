"""`Executor`: what stages hand their independent pieces of work to."""

from collections.abc import Iterator, Sequence
from typing import Protocol

__all__ = ["Executor"]


class Executor(Protocol):
    """Runs functions `bytes -> bytes` over payloads, wherever; close it when done (`contextlib.closing`)."""

    @property
    def worker_count(self) -> int:
        """Pieces that run at the same time."""
        ...

    def run(self, function: str, payloads: Sequence[bytes]) -> Iterator[tuple[int, bytes]]:
        """Run one function over every payload.

        A payload should carry paths rather than data, and everything the result depends on; a function should write
        what is large to a file of its own. When the iterator is left early, pieces not finished are abandoned.

        Args:
            function: `package.module:name`, one of `tasks.TASKS`.
            payloads: one piece each.

        Yields:
            The index of a payload and its result, in the order they finish.

        Raises:
            EdgePruneError: of the class and with the message that a piece raised.
            DeviceError: a piece ended its worker twice, or failed unexpectedly.
            ProtocolError: the cluster was lost.
            UsageError: a function that is not allowed.
        """
        ...

    def close(self) -> None:
        """End the workers; a closed executor runs nothing."""
