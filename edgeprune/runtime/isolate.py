"""Measuring in a process of its own, so that nothing of the caller is counted.

`run_isolated` starts `python -m <module>` with the request on stdin and gives back what it wrote to stdout. The
caller blocks without spinning while the child is measured. The child's main is `answer(handle)`, which keeps stray
output of native libraries out of the answer and turns our errors into a last line on stderr and an exit code.
"""

import contextlib
import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

from edgeprune.errors import DeviceError, EdgePruneError, ExitCode, ModelError
from edgeprune.runtime.parent import end_with_parent

__all__ = ["MEMORY_GROUP", "answer", "child_environment", "run_isolated"]

_OUT_OF_MEMORY = 137
"""The code a shell gives a program killed for memory (128 + SIGKILL); our children use it for MemoryError."""


MEMORY_GROUP = "EDGEPRUNE_MEMORY_GROUP"
"""Environment variable with the control group that measuring processes enter; set by `emulate`."""
_ENTER = "import os, sys; open(sys.argv[1] + '/cgroup.procs', 'w').write('0'); os.execv(sys.argv[2], sys.argv[2:])"
"""A process enters the group and becomes the measured program: entering later would leave its imports uncounted."""


def run_isolated(module: str, request: bytes, *, timeout_s: float, thread_count: int | None = None) -> bytes:
    """Run `python -m module` in a fresh process and give back its answer.

    Args:
        module: dotted name of a module whose main calls `answer`.
        request: what the child finds on stdin.
        timeout_s: after so many seconds the child is killed.
        thread_count: threads of OpenMP and BLAS in the child; None leaves the environment as it is.

    Raises:
        ModelError: the child could not use the model or bundle it was given.
        DeviceError: it ran out of memory, out of time, or failed; the message has its last line.
    """
    with subprocess.Popen(
        _command(module),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=child_environment(thread_count),
        start_new_session=True,
    ) as child:
        try:
            out, err = child.communicate(request, timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            _kill_group(child)
            raise DeviceError(
                f"The measuring process {module} took longer than {timeout_s:.0f} s and was stopped; "
                "try a smaller context or a less loaded device."
            ) from error
        except BaseException:  # an interruption must not leave a child that goes on using the device
            _kill_group(child)
            raise
    if child.returncode != 0:
        _raise_failure(module, child.returncode, err)
    return out


def answer(handle: Callable[[bytes], bytes]) -> None:
    """Main of a child: request from stdin, `handle`, answer to stdout; errors become an exit code and a last line."""
    end_with_parent()  # nobody is left to hear the answer, and the device is wanted for the next attempt
    request = sys.stdin.buffer.read()
    # Whatever a native library writes to descriptor 1 would corrupt the answer: it goes to stderr.
    with os.fdopen(os.dup(1), "wb") as answer_stream:
        os.dup2(2, 1)
        try:
            reply = handle(request)
        except EdgePruneError as error:
            _fail(str(error), int(error.exit_code))
        except MemoryError:
            _fail("out of memory", _OUT_OF_MEMORY)
        except Exception as error:  # the border of the process: the parent gets one line, whatever failed
            text = " ".join(str(error).split())
            _fail(f"{type(error).__name__}: {text}", _OUT_OF_MEMORY if "bad_alloc" in text else 1)
        answer_stream.write(reply)


def _command(module: str) -> list[str]:
    program = [sys.executable, "-m", module]
    group = os.environ.get(MEMORY_GROUP)
    return program if group is None else [sys.executable, "-I", "-S", "-c", _ENTER, group, *program]


def _fail(line: str, code: int) -> None:
    sys.stderr.write("\n" + " ".join(line.split()) + "\n")
    raise SystemExit(code)


def child_environment(thread_count: int | None) -> dict[str, str]:
    """Environment in which a child finds this package whatever the caller's folder, with so many threads of BLAS."""
    environment = dict(os.environ)
    root = str(Path(__file__).resolve().parents[2])
    # An installed package is found anyway; site-packages on PYTHONPATH would come before the standard library.
    if root not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        known = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = root if not known else root + os.pathsep + known
    environment["PYTHONSAFEPATH"] = "1"  # a numpy.py in the caller's folder must not be imported
    if thread_count is not None:
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            environment[name] = str(thread_count)
    return environment


def _kill_group(child: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(timeout=10.0)


def _raise_failure(module: str, code: int, err: bytes) -> None:
    lines = [line.strip() for line in err.decode("utf-8", "replace").splitlines() if line.strip()]
    last = lines[-1][:500] if lines else "it said nothing"
    if code in (-signal.SIGKILL, _OUT_OF_MEMORY) or last.startswith("MemoryError"):
        raise DeviceError(
            f"The measuring process {module} ran out of memory and was ended; close other programs or choose a "
            "smaller recipe."
        )
    if code < 0:
        raise DeviceError(f"The measuring process {module} was ended by {_signal_name(-code)}; its last line: {last}")
    if code == ExitCode.MODEL:
        raise ModelError(last)
    raise DeviceError(f"The measuring process {module} failed with exit code {code}: {last}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
