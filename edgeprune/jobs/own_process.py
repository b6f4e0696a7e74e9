"""A command's work in a process of its own, forked before anything heavy is loaded.

A fork costs a millisecond and no memory, where a second interpreter would double the time of a verb that answers in
half a second. When memory runs out, the system ends the work and not what the user started, which is then still there
to say so. The work dies with this process. Linux only; elsewhere the work is done here.
"""

import os
import signal
import sys
from collections.abc import Callable

from edgeprune.runtime.parent import end_with_parent

__all__ = ["run_in_child"]

_WATCHED = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)


def run_in_child(work: Callable[[], int]) -> int:
    """Do the work in a child and give its exit code, or minus the signal that ended it.

    Signals sent to this process alone are passed on; a terminal's Ctrl-C reaches the child by itself. Call it from the
    main thread, before any other is started.
    """
    if not sys.platform.startswith("linux"):
        return work()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        end_with_parent(parent)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        sys.exit(work())
    try:
        while True:
            told = signal.sigwaitinfo(_WATCHED)
            if told.si_signo == signal.SIGCHLD:
                ended, status = os.waitpid(child, os.WNOHANG)
                if ended:
                    return os.waitstatus_to_exitcode(status)
            elif told.si_code <= 0:  # a process sent it (SI_USER and below), not the terminal (SI_KERNEL)
                os.kill(child, told.si_signo)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
