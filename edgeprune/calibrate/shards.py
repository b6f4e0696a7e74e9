"""Calibration in shards: the windows split into fixed parts, each measured on its own, the sums added in order.

How many parts there are depends on the model and the text alone, never on who works, and they are added in one order;
so a single process, many processes and a cluster give the same statistics. Each part leaves its sums in a file named
by the hash of everything they depend on, and a file that is there is not measured again. `measure_shard` is what a
worker of any executor runs.
"""

import contextlib
import itertools
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import Tensor

from edgeprune import __version__
from edgeprune.artifacts import hash_parts
from edgeprune.calibrate.accumulate import PARTS
from edgeprune.calibrate.capture import NO_EDITS, add_up, advanced, as_stats, batch_windows, check_windows
from edgeprune.calibrate.statistics import CalibrationStats
from edgeprune.calibrate.sums import Sums, is_whole
from edgeprune.intake.load import LoadedModel
from edgeprune.intake.load_once import load_once
from edgeprune.runtime.executor import Executor
from edgeprune.runtime.executor.inline import InlineExecutor
from edgeprune.schema.base import Record
from edgeprune.schema.events import NullProgress, Progress
from edgeprune.schema.model import ModelSpec

__all__ = [
    "ShardTask",
    "capture_sharded",
    "measure_shard",
    "output_gram_bytes",
    "plan_shards",
    "shard_bytes",
    "shard_count",
]

_MOST_SHARDS = 8
_DISK_BYTES = 4 << 30
"""The files of all parts together: each holds every Gram once, and Grams of large models are large."""


class ShardTask(Record, frozen=True, kw_only=True):
    """One part of the windows, as it crosses to whatever process measures it."""

    key: str
    """sha256 over everything the sums depend on."""
    path: str
    """File the sums go to."""
    model: str
    """Folder of the dense model."""
    model_hash: str
    windows: bytes
    """[n, seq] int32, little-endian."""
    window_tokens: int
    first_window: int
    """Where in the whole this part begins."""
    window_total: int
    gradient_windows: int
    """As many windows of the whole, from its beginning, are run backwards too."""
    with_output_gram: bool = False
    """As of `capture`."""


def shard_bytes(spec: ModelSpec) -> int:
    """Size of the file of one part: nearly all of it float64 Grams."""
    values = spec.hidden_size**2
    for block in spec.blocks:
        values += 2 * spec.hidden_size**2 + (block.num_heads * block.head_dim) ** 2 + block.intermediate_size**2
    return 8 * values


def output_gram_bytes(spec: ModelSpec) -> int:
    """Size of the second moments of the gradients of all sites' outputs."""
    return 8 * sum(site.out_features**2 for block in spec.blocks for site in block.sites)


def shard_count(spec: ModelSpec, window_count: int, window_tokens: int) -> int:
    """How many parts the windows are split into, at least one."""
    batches = -(-window_count // batch_windows(window_tokens))
    return max(1, min(_MOST_SHARDS, batches, _DISK_BYTES // shard_bytes(spec)))


def plan_shards(
    loaded: LoadedModel, tokens: Tensor, *, gradient_tokens: int, folder: Path, with_output_gram: bool = False
) -> list[ShardTask]:
    """The parts of windows [n, seq] int32: whole batches, as equal as they can be; none is empty."""
    count, length = tokens.shape
    step = batch_windows(length)
    batches = -(-count // step)
    parts = shard_count(loaded.spec, count, length)
    edges = [min(count, part * batches // parts * step) for part in range(parts + 1)]
    edges[-1] = count
    tasks = []
    for first, last in itertools.pairwise(edges):
        task = ShardTask(
            key="",
            path="",
            model=str(loaded.folder.absolute()),
            model_hash=loaded.spec.model_hash,
            windows=np.ascontiguousarray(tokens[first:last].numpy(), dtype="<i4").tobytes(),
            window_tokens=length,
            first_window=first,
            window_total=count,
            gradient_windows=-(-gradient_tokens // length),
            with_output_gram=with_output_gram,
        )
        # Where the model stands and how much text there is besides change no sum.
        key = hash_parts(__version__, PARTS, msgspec.structs.replace(task, model="", window_total=0), step)
        tasks.append(msgspec.structs.replace(task, key=key, path=str((folder / f"{key}.safetensors").absolute())))
    return tasks


def capture_sharded(
    loaded: LoadedModel,
    tokens: Tensor,
    *,
    folder: Path | None = None,
    executor: Executor | None = None,
    general_tokens: Tensor | None = None,
    token_count: Tensor | None = None,
    general_token_count: Tensor | None = None,
    gradient_tokens: int = 8192,
    with_output_gram: bool = False,
    progress: Progress | None = None,
) -> CalibrationStats:
    """Measure the dense model as `capture` does, in parts.

    Args:
        loaded: the dense model as it stands in its folder; not changed.
        tokens: [n, seq] int32.
        folder: where the parts leave their sums, so that an interrupted measurement goes on; gone when all are added.
            None is a temporary folder.
        executor: where they are measured; None, or this process, measures them with `loaded` itself.
        general_tokens: as of `capture`, like the rest.
        token_count: see there.
        general_token_count: see there.
        gradient_tokens: see there.
        with_output_gram: see there.
        progress: told after each batch here, after each part elsewhere.

    Raises:
        CalibrationError: no windows, or activations that are not finite.
        DeviceError: the disk is full or fails.
    """
    check_windows(tokens)
    watch = progress or NullProgress()
    with _place(folder) as place:
        tasks = plan_shards(
            loaded, tokens, gradient_tokens=gradient_tokens, folder=place, with_output_gram=with_output_gram
        )
        if len(tasks) == 1:  # nothing to share out, and nothing a file would save
            sums = _measured(loaded, tasks[0], watch)
        else:
            todo = [task for task in tasks if not is_whole(Path(task.path), key=task.key)]
            if executor is None or isinstance(executor, InlineExecutor):
                for task in todo:
                    _measured(loaded, task, watch).save(Path(task.path), key=task.key)
            else:
                _run(executor, todo, total=len(tokens), progress=watch)
            sums = Sums.zero(len(loaded.spec.blocks))
            for task in tasks:
                sums.merge_file(Path(task.path))
    return as_stats(
        sums,
        loaded,
        tokens,
        general_tokens=general_tokens,
        token_count=token_count,
        general_token_count=general_token_count,
        edits_hash=NO_EDITS,
    )


def measure_shard(payload: bytes) -> bytes:
    """JSON of a `ShardTask`; its sums go to its file, the answer is its key.

    Raises:
        ModelError: the folder holds another model than the task was made for.
    """
    task = msgspec.json.decode(payload, type=ShardTask)
    path = Path(task.path)
    if not is_whole(path, key=task.key):  # a task that is tried again may have finished before
        loaded = load_once(task.model, task.model_hash)
        _measured(loaded, task, NullProgress()).save(path, key=task.key)
    return msgspec.json.encode(task.key)


@contextlib.contextmanager
def _place(folder: Path | None) -> Iterator[Path]:
    """The folder of the parts' files; it stays when the block fails, unless it is temporary."""
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="edgeprune-") as temporary:
            yield Path(temporary)
        return
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def _run(executor: Executor, tasks: Sequence[ShardTask], *, total: int, progress: Progress) -> None:
    done = total - sum(_window_count(task) for task in tasks)
    results = executor.run(f"{__name__}:{measure_shard.__name__}", [msgspec.json.encode(task) for task in tasks])
    for index, _ in results:
        progress.raise_if_cancelled()
        done += _window_count(tasks[index])
        progress.emit(advanced(done, total))


def _window_count(task: ShardTask) -> int:
    return len(task.windows) // (4 * task.window_tokens)


def _measured(loaded: LoadedModel, task: ShardTask, progress: Progress) -> Sums:
    windows = np.frombuffer(task.windows, dtype="<i4").reshape(-1, task.window_tokens)
    return add_up(
        loaded,
        torch.from_numpy(windows.astype(np.int32)),
        gradient_windows=task.gradient_windows,
        first_window=task.first_window,
        window_total=task.window_total,
        with_output_gram=task.with_output_gram,
        progress=progress,
    )
