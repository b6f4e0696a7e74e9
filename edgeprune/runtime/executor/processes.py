"""`ProcessExecutor`: child processes that stay, each with one task at a time.

The parent waits in `select`, so it uses no core beside the working ones. A worker that dies costs the task it held:
the task is tried once more on a fresh worker, and a second loss is the task's own fault.
"""

import selectors
from collections import deque
from collections.abc import Iterator, Sequence

from edgeprune.errors import DeviceError
from edgeprune.runtime.executor.tasks import result_of
from edgeprune.runtime.executor.worker import Worker
from edgeprune.runtime.threads import usable_core_count

__all__ = ["ProcessExecutor"]


class ProcessExecutor:
    """Runs tasks in processes of this machine, started when first needed."""

    def __init__(
        self,
        worker_count: int,
        *,
        thread_count: int | None = None,
        child_module: str = "edgeprune.runtime.executor.child",
    ) -> None:
        """Start nothing yet.

        Args:
            worker_count: processes at most.
            thread_count: OpenMP and BLAS threads of each; None shares the usable cores among them.
            child_module: its main serves tasks.
        """
        self.worker_count = worker_count
        self._thread_count = thread_count or max(1, usable_core_count() // worker_count)
        self._child_module = child_module
        self._idle: list[Worker] = []
        self._busy: dict[Worker, int] = {}
        self._is_closed = False

    @property
    def worker_pids(self) -> tuple[int, ...]:
        """Process ids of the living workers."""
        return tuple(worker.pid for worker in (*self._idle, *self._busy))

    def run(self, function: str, payloads: Sequence[bytes]) -> Iterator[tuple[int, bytes]]:
        """Run one function over every payload, see `Executor.run`; one run at a time."""
        assert not self._is_closed, "a closed executor runs nothing"
        assert not self._busy, "one run at a time"
        waiting = deque(range(len(payloads)))
        lost: set[int] = set()
        try:
            with selectors.DefaultSelector() as selector:
                while waiting or self._busy:
                    while waiting and len(self._busy) < self.worker_count:
                        index = waiting.popleft()
                        worker = self._take(is_second_try=index in lost)
                        self._busy[worker] = index
                        selector.register(worker, selectors.EVENT_READ, worker)
                        worker.send(function, payloads[index])
                    for key, _ in selector.select():
                        worker = key.data
                        selector.unregister(worker)
                        reply = worker.receive()
                        index = self._busy.pop(worker)
                        if reply is not None:
                            self._idle.append(worker)
                            yield index, result_of(reply)
                            continue
                        how = worker.last_words()
                        if index in lost:
                            raise DeviceError(
                                f"Task {index + 1} of {len(payloads)} ({function}) ended its worker process twice "
                                f"({how}); if memory is short, use fewer --workers."
                            )
                        lost.add(index)
                        waiting.appendleft(index)
        finally:
            # After an error, an interruption or an iterator left early, what still works is working for nobody.
            for worker in self._busy:
                worker.end()
            self._busy.clear()

    def close(self) -> None:
        """End every worker."""
        self._is_closed = True
        for worker in (*self._idle, *self._busy):
            worker.end()
        self._idle.clear()
        self._busy.clear()

    def _take(self, *, is_second_try: bool) -> Worker:
        """A worker for a task.

        One that rested may have died meanwhile, which is no fault of the task it is handed: a second try gets a new
        one, so that a task is only blamed for a worker that it ended itself.
        """
        if not self._idle:
            return self._start()
        worker = self._idle.pop()
        if not is_second_try:
            return worker
        worker.end()
        return self._start()

    def _start(self) -> Worker:
        return Worker(self._child_module, thread_count=self._thread_count)
