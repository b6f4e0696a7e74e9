"""`one_thread`: linear algebra with the same bits wherever it is done.

LAPACK splits its work by the number of threads, which changes the last bits of what it returns. Two machines with one
build of torch agree where it runs on one.
"""

import contextlib
import functools
from collections.abc import Iterator

import torch
from threadpoolctl import ThreadpoolController

__all__ = ["one_thread"]


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Torch, and the BLAS that numpy and scipy come with, on one thread while the block runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with _libraries().limit(limits=1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)


@functools.cache
def _libraries() -> ThreadpoolController:
    """Those loaded by now; looking for them takes longer than a small site."""
    return ThreadpoolController()
