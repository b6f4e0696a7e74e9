"""One way to run independent pieces of work: in this process, in child processes, or on a Dask cluster.

A piece is a function `bytes -> bytes` named by a string: what crosses a border is bytes, and we pickle nothing.
Results do not depend on where a piece ran; so no executor belongs in a cache key.
"""

from edgeprune.runtime.executor.open import open_executor
from edgeprune.runtime.executor.protocol import Executor

__all__ = ["Executor", "open_executor"]
