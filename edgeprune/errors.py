"""Every error EdgePrune raises on purpose, and the exit code each one becomes.

    EdgePruneError
    ├── UsageError                        2   flags, sizes, units, texts, folders
    │   ├── RecipeError                   2   a recipe that does not fit the model (which entry)
    │   └── CalibrationError              2   domain, evaluation or question text that cannot be used
    ├── InfeasibleBudgetError             1   no recipe meets the budget (what binds, the nearest feasible one)
    ├── ModelError                        3   a model or bundle that cannot be read
    │   └── UnsupportedArchitectureError  3   readable, but not a family we know
    ├── ExportError                       4   the graph could not be built or written
    │   └── ParityError                   4   the graph does not compute what torch computes
    ├── DeviceError                       4   disk, memory or device failed
    │   └── RuntimeUnavailableError       4   onnxruntime or an execution provider is missing
    ├── ProtocolError                     5   daemon or cluster unreachable, or speaking another version
    └── Cancelled                       130   interrupted; finished stages are kept

Each message is one or two sentences: what happened, on what, and what to do.
"""

import errno
from enum import IntEnum

__all__ = [
    "CalibrationError",
    "Cancelled",
    "DeviceError",
    "EdgePruneError",
    "ExitCode",
    "ExportError",
    "InfeasibleBudgetError",
    "ModelError",
    "ParityError",
    "ProtocolError",
    "RecipeError",
    "RuntimeUnavailableError",
    "UnsupportedArchitectureError",
    "UsageError",
    "describe",
]


class ExitCode(IntEnum):
    """Exit codes of the command line, documented in the README."""

    MET = 0
    NOT_MET = 1
    USAGE = 2
    MODEL = 3
    RUNTIME = 4
    UNREACHABLE = 5
    INTERRUPTED = 130


class EdgePruneError(Exception):
    """Base of all errors with a message meant for the user."""

    exit_code = ExitCode.RUNTIME


class UsageError(EdgePruneError):
    """Flags, sizes, units, folders or recipes that cannot be used as given."""

    exit_code = ExitCode.USAGE


class RecipeError(UsageError):
    """A recipe that does not fit the model; `entry` says where, as keys and positions from the record's top."""

    def __init__(self, message: str, *entry: str | int) -> None:
        """Keep the place beside the sentence."""
        super().__init__(message)
        self.entry = entry


class CalibrationError(UsageError):
    """Domain, evaluation or question text that is missing, unreadable or too little."""


class InfeasibleBudgetError(EdgePruneError):
    """No recipe meets the budget; the message names what binds and the nearest feasible budget."""

    exit_code = ExitCode.NOT_MET


class ModelError(EdgePruneError):
    """A model or bundle that is missing, malformed, truncated or not what its manifest says."""

    exit_code = ExitCode.MODEL


class UnsupportedArchitectureError(ModelError):
    """A model that can be read but belongs to no supported family."""


class ExportError(EdgePruneError):
    """The ONNX graph could not be built or written."""


class ParityError(ExportError):
    """The ONNX graph does not compute what the torch model computes."""


class DeviceError(EdgePruneError):
    """Disk, memory or device failed while working."""


class RuntimeUnavailableError(DeviceError):
    """Onnxruntime or the requested execution provider is not installed."""


class ProtocolError(EdgePruneError):
    """The daemon or the cluster cannot be reached."""

    exit_code = ExitCode.UNREACHABLE


class Cancelled(EdgePruneError):  # noqa: N818 - an interruption is not an error
    """The user interrupted the work; finished stages are kept."""

    exit_code = ExitCode.INTERRUPTED


def describe(error: BaseException) -> tuple[str, ExitCode]:
    """One clear sentence for any error, ours or not, and its exit code.

    An error that arose from an interruption is the interruption: libraries that are interrupted while they are loaded
    raise ImportError.
    """
    if _arose_from(error, KeyboardInterrupt):
        return "interrupted; finished stages are kept, the same command resumes.", ExitCode.INTERRUPTED
    if isinstance(error, EdgePruneError):
        return str(error), ExitCode(error.exit_code)
    if isinstance(error, ModuleNotFoundError) and error.name is not None:
        return (
            f"{error.name} is not installed, and this needs it; run pip install 'edgeprune[compress]', "
            "or do this part on a host that has it."
        ), ExitCode.RUNTIME
    if isinstance(error, MemoryError) or _says_out_of_memory(error):
        return ("out of memory; close programs, use a shorter --context, or a host with more memory."), ExitCode.RUNTIME
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "the disk is full; free space and run again, finished stages are kept.", ExitCode.RUNTIME
    detail = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return (
        f"unexpected {type(error).__name__}: {detail}. This is a defect; run again with EDGEPRUNE_DEBUG=1 "
        "and report what it prints."
    ), ExitCode.RUNTIME


def _arose_from(error: BaseException | None, kind: type[BaseException]) -> bool:
    while error is not None:
        if isinstance(error, kind):
            return True
        error = error.__cause__ or error.__context__
    return False


def _says_out_of_memory(error: BaseException) -> bool:
    """Torch, onnxruntime and the loader of shared libraries raise their own classes for it."""
    text = str(error).lower()
    signs = ("can't allocate memory", "cannot allocate memory", "bad_alloc", "failed to map segment")
    return any(sign in text for sign in signs)
