"""Main of a worker process: tasks from stdin, replies to what was stdout, until the parent is gone.

`python -m edgeprune.runtime.executor.child`. A thread of its own listens to the parent, so that a worker whose parent
was killed ends at once, also in the middle of a task, instead of using the device for nobody.
"""

import os
import queue
import threading

from edgeprune.runtime.executor.frames import Task, read_frame, write_frame
from edgeprune.runtime.executor.tasks import perform

__all__ = ["serve"]


def serve() -> None:
    """Work until stdin ends; does not return."""
    requests = os.dup(0)
    replies = os.dup(1)
    # A task that reads or prints, natively or not, must neither eat a request nor corrupt a reply.
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests, tasks), daemon=True).start()
    while True:
        task = tasks.get()
        write_frame(replies, perform(task.function, task.payload))


def _listen(requests: int, tasks: "queue.SimpleQueue[Task]") -> None:
    while (task := read_frame(requests, Task)) is not None:
        tasks.put(task)
    os._exit(0)  # the main thread may be deep in native code; there is nobody to tell


if __name__ == "__main__":
    serve()
