"""A process that ends when its parent does, however the parent ends.

Linux only (`prctl(PR_SET_PDEATHSIG)`, man 2 PR_SET_PDEATHSIG): the kernel sends SIGKILL when the thread that started
this process ends. Elsewhere nothing happens, and a child must notice by its pipes.
"""

import ctypes
import os
import signal
import sys

__all__ = ["end_with_parent"]

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent_pid: int | None = None) -> None:
    """Die with the parent; at once when `parent_pid` is no longer it.

    The parent's thread that started this process must live as long as this process shall.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if parent_pid is not None and os.getppid() != parent_pid:
        os._exit(128 + signal.SIGKILL)
