"""Which functions a worker runs, and how one piece of work becomes a reply.

A worker gets a function's name from outside, so the name is checked against `TASKS` on the worker's side. `perform`
never raises what a piece raised: it puts our errors into the reply by class and message, and everything else as one
line, so that the caller can raise them again without unpickling anything.
"""

import os
import sys
import threading
import traceback
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

import msgspec

from edgeprune import __version__, errors
from edgeprune.errors import DeviceError, EdgePruneError, ProtocolError, UsageError

__all__ = ["TASKS", "Reply", "perform", "perform_encoded", "resolve", "result_of", "task_versions"]

TASKS = {
    "edgeprune.calibrate.shards:measure_shard",
    "edgeprune.compress.evaluate:evaluate_bytes",
    "edgeprune.compress.factor_blocks:factor_block",
}
"""Functions that a worker runs, `package.module:name`. Names, not imports: each module imports torch, and only when it
is called."""

_ONE_AT_A_TIME = threading.Lock()
"""A Dask worker may have several threads, but torch's thread count and quiet loading are settings of the process."""


class Reply(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What came of one piece of work."""

    result: bytes | None = None
    error: str | None = None
    """Name of a class in `edgeprune.errors`; None when there is a result."""
    message: str = ""


def resolve(function: str) -> Callable[[bytes], bytes]:
    """The function of a name `package.module:name`.

    Raises:
        UsageError: not one of `TASKS`.
    """
    if function not in TASKS:
        raise UsageError(f"{function!r} is not a function that workers run; this is a defect, please report it.")
    module, _, name = function.partition(":")
    found: Callable[[bytes], bytes] = getattr(import_module(module), name)
    return found


def perform(function: str, payload: bytes) -> Reply:
    """Run one piece here; whatever it raises short of an interruption is in the reply."""
    with _ONE_AT_A_TIME:
        try:
            return Reply(result=resolve(function)(payload))
        except EdgePruneError as error:
            return Reply(error=_known_class(error), message=str(error))
        except MemoryError:
            message = f"{function} ran out of memory; use fewer workers or close other programs."
        except ModuleNotFoundError as error:
            message = f"{error.name} is not installed where {function} ran; pip install 'edgeprune[compress]' there."
        except Exception as error:  # the border of the worker: the caller gets one line, whatever failed
            if "EDGEPRUNE_DEBUG" in os.environ:
                traceback.print_exc(file=sys.stderr)
            detail = " ".join(str(error).split())
            message = f"{function} failed: {type(error).__name__}: {detail}. This is a defect; please report it."
    return Reply(error=DeviceError.__name__, message=message)


def result_of(reply: Reply) -> bytes:
    """The result of a piece, or its error raised again.

    Raises:
        EdgePruneError: of the class that the piece raised.
    """
    if reply.result is not None:
        return reply.result
    kind = getattr(errors, reply.error or "", None) if reply.error in errors.__all__ else None
    if not (isinstance(kind, type) and issubclass(kind, EdgePruneError)):
        kind = DeviceError
    raise kind(reply.message)


def task_versions() -> dict[str, str]:
    """Versions of what decides results, as installed here; a worker with others could give other results."""
    versions = {"edgeprune": __version__}
    for name in ("torch", "transformers"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "none"
    return versions


def perform_encoded(function: str, payload: bytes, versions: dict[str, str]) -> bytes:
    """`perform` for a worker on another machine, which first compares versions; gives an encoded `Reply`."""
    here = task_versions()
    if here != versions:
        differing = ", ".join(f"{name} {here.get(name)} for {versions[name]}" for name in versions
                              if here.get(name) != versions[name])  # fmt: skip
        message = f"A worker of the cluster has {differing}; install the same versions everywhere and run again."
        return msgspec.msgpack.encode(Reply(error=ProtocolError.__name__, message=message))
    return msgspec.msgpack.encode(perform(function, payload))


def _known_class(error: EdgePruneError) -> str:
    """The class by which the caller knows the error: its own, or the nearest that `edgeprune.errors` defines."""
    return next(kind.__name__ for kind in type(error).__mro__ if kind.__name__ in errors.__all__)
