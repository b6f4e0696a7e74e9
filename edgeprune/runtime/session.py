"""Opening an onnxruntime session, always with the same options, so that what is profiled is what is validated.

Takes a graph (a file, or the bytes of one), a thread count and an execution provider; gives an `InferenceSession`.
Every session of EdgePrune is made here: the kernel table, the parity check and the validation must not differ in a
session option. Its weights are held in huge pages where the system gives them (`huge_pages`).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeprune.errors import DeviceError, EdgePruneError, ModelError, RuntimeUnavailableError, UsageError
from edgeprune.runtime.huge_pages import gather_weights, hold_in_huge_pages
from edgeprune.schema.device import RuntimeInfo

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["CPU_PROVIDER", "REST_S", "describe_failure", "import_onnxruntime", "open_session", "runtime_info"]

CPU_PROVIDER = "CPUExecutionProvider"

REST_S = 0.0004
"""A pause after which the workers of a session that is one of many no longer spin."""

_SPIN_DURATION_SINCE = (1, 26)
_FATAL_ONLY = 4
"""onnxruntime repeats on stderr what its exceptions already say; only fatal lines are let through."""


def import_onnxruntime() -> Any:
    """The onnxruntime module.

    Raises:
        RuntimeUnavailableError: it is not installed, or cannot be loaded on this machine.
    """
    # Deferred: plan, search and report work where no runtime is installed.
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise RuntimeUnavailableError("onnxruntime is not installed; run pip install 'edgeprune[cpu]'.") from error
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"onnxruntime is installed but cannot be loaded ({error}); reinstall it with "
            "pip install --force-reinstall onnxruntime."
        ) from error
    return onnxruntime


def open_session(
    model: Path | bytes, *, execution_provider: str = CPU_PROVIDER, thread_count: int, is_one_of_many: bool = False
) -> "onnxruntime.InferenceSession":
    """Open a session on a graph; external data is looked for beside a file.

    Workers spin for some 100 ms after a run, waiting for the next. With `is_one_of_many` they rest after a pause of
    `REST_S`: the workers of a session that rests would otherwise take the cores of the one that is timed.

    Raises:
        RuntimeUnavailableError: onnxruntime or the execution provider is not installed.
        ModelError: the graph is missing, malformed, or needs an operator this onnxruntime lacks.
        DeviceError: not enough memory to load it.
        UsageError: fewer than one thread.
    """
    ort = import_onnxruntime()
    if thread_count < 1:
        raise UsageError(f"A session needs at least one thread, not {thread_count}.")
    available = ort.get_available_providers()
    if execution_provider not in available:
        raise RuntimeUnavailableError(
            f"The execution provider {execution_provider} is not in this onnxruntime, which has "
            f"{', '.join(available)}; choose one of these with --ep."
        )
    what = str(model) if isinstance(model, Path) else f"a graph of {len(model)} bytes"
    if isinstance(model, Path) and not model.is_file():
        raise ModelError(f"{model} is missing; export the bundle again.")
    options = ort.SessionOptions()
    options.intra_op_num_threads = thread_count
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL_ONLY
    # Without VNNI, signed 8-bit products saturate in AVX2's 16-bit sums: an error of 20 % with this left at "0".
    options.add_session_config_entry("session.x64quantprecision", "1")
    if is_one_of_many and _version(ort) >= _SPIN_DURATION_SINCE:
        options.add_session_config_entry("session.intra_op.spin_duration_us", str(round(0.5e6 * REST_S)))
    elif is_one_of_many:  # they stop at the end of a run; waking them again costs some 25 us a run
        options.add_session_config_entry("session.force_spinning_stop", "1")
    gather_weights()
    try:
        session = ort.InferenceSession(
            str(model) if isinstance(model, Path) else model, sess_options=options, providers=[execution_provider]
        )
    except MemoryError as error:
        raise DeviceError(f"Out of memory while loading {what}; choose a smaller recipe.") from error
    except Exception as error:  # onnxruntime's exceptions share no base below Exception
        if _is_out_of_memory(error):
            raise DeviceError(f"Out of memory while loading {what}; choose a smaller recipe.") from error
        raise ModelError(f"onnxruntime {ort.__version__} cannot load {what}: {_first_line(error)}") from error
    hold_in_huge_pages(gives_back=not is_one_of_many)
    return session


def runtime_info() -> RuntimeInfo:
    """The onnxruntime of this environment; version None when there is none."""
    try:
        ort = import_onnxruntime()
    except RuntimeUnavailableError:
        return RuntimeInfo(onnxruntime_version=None, execution_providers=())
    return RuntimeInfo(
        onnxruntime_version=str(ort.__version__), execution_providers=tuple(map(str, ort.get_available_providers()))
    )


def _version(ort: Any) -> tuple[int, ...]:
    return tuple(int(part) for part in str(ort.__version__).split(".")[:2])


def describe_failure(error: Exception) -> EdgePruneError:
    """What a failed run of a session becomes: out of memory, or a graph that cannot be run."""
    if isinstance(error, MemoryError) or _is_out_of_memory(error):
        return DeviceError("Out of memory while running the model; choose a smaller recipe or a shorter context.")
    return ModelError(f"onnxruntime could not run the graph: {_first_line(error)}")


def _is_out_of_memory(error: Exception) -> bool:
    text = str(error).lower()
    return "bad_alloc" in text or "failed to allocate memory" in text or "out of memory" in text


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
