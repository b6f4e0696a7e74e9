"""Factoring block by block on the workers of an executor.

The model may be edited already (narrower, fewer blocks), so its folder and the statistics on disk do not describe it:
each block's weights and Grams go to a file of their own, a worker leaves the factors in a second one, and both are gone
afterwards. Worth it from some seconds of work; below, starting workers and writing Grams costs more than it saves.
"""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from edgeprune.calibrate.statistics import CalibrationStats, input_key
from edgeprune.compress.factor_site import SiteInputs, factor_sites, site_inputs
from edgeprune.compress.ranks import Factors
from edgeprune.errors import DeviceError
from edgeprune.runtime.executor import Executor
from edgeprune.schema.base import Record
from edgeprune.schema.events import Progress
from edgeprune.schema.recipe import SiteEdit
from edgeprune.sharing import groups_of_one_factor

__all__ = ["FactorTask", "Sites", "factor_block", "factor_blocks", "is_worth_sharing"]

_WORTH_FLOPS = 1e11
"""Some five to ten seconds of one core; a cold worker takes as long to import torch."""

Sites = Mapping[str, tuple[SiteEdit, nn.Linear]]
"""Site name -> its edit and its module."""


class FactorTask(Record, frozen=True, kw_only=True):
    """One block's sites, as they cross to whatever process factors them."""

    edits: tuple[SiteEdit, ...]
    inputs: str
    """Safetensors: `weight/<site>`, `bias/<site>` and `output_gram/<site>`; by input key `gram`, `mean` and
    `mean_absolute`; what is not there was not measured."""
    output: str
    """Safetensors to write: `right/<site>`, `left/<site>` and `bias/<site>`, float32, and `order/<site>`, int64; a
    right factor of several sites stands under the first one's name."""


def is_worth_sharing(modules: Iterable[nn.Linear]) -> bool:
    """Whether eigenproblems of these sizes take long enough."""
    flops = 0.0
    for module in modules:
        small, large = sorted((module.in_features, module.out_features))
        flops += 10.0 * small**3 + 4.0 * small**2 * large  # an eigenproblem and the products around it
    return flops >= _WORTH_FLOPS


def factor_blocks(
    blocks: Iterable[Sites], stats: CalibrationStats, *, executor: Executor, folder: Path, progress: Progress
) -> dict[str, Factors]:
    """Factor the sites of every block, a task each.

    Args:
        blocks: by block, site name -> its edit and its module; blocks without sites are left out.
        stats: of the model the modules belong to.
        executor: whose workers see `folder`.
        folder: for the files between; gone afterwards.
        progress: asked after each block whether to go on.

    Raises:
        ModelError: weights or statistics that are not finite.
        DeviceError: the disk is full, fails, or is not shared with the workers.
    """
    factors: dict[str, Factors] = {}
    try:
        tasks = [_write(folder / f"block-{number}", sites, stats) for number, sites in enumerate(blocks) if sites]
        name = f"{__name__}:{factor_block.__name__}"
        for index, _ in executor.run(name, [msgspec.json.encode(task) for task in tasks]):
            progress.raise_if_cancelled()
            tensors = _load(Path(tasks[index].output))
            for group in groups_of_one_factor(tasks[index].edits):
                for edit in group:
                    factors[edit.name] = Factors(
                        right=tensors[f"right/{group[0].name}"],
                        left=tensors[f"left/{edit.name}"],
                        bias=tensors.get(f"bias/{edit.name}"),
                        order=tensors.get(f"order/{edit.name}"),
                    )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return factors


def factor_block(payload: bytes) -> bytes:
    """JSON of a `FactorTask`; the factors go to its file, the answer is empty.

    Raises:
        ModelError: weights or statistics that are not finite.
        DeviceError: the files cannot be read or written.
    """
    task = msgspec.json.decode(payload, type=FactorTask)
    tensors = _load(Path(task.inputs))
    made: dict[str, Tensor] = {}
    for group in groups_of_one_factor(task.edits):
        found = factor_sites(group, {edit.name: _read(edit.name, tensors) for edit in group})
        made[f"right/{group[0].name}"] = found[group[0].name].right
        for name, factors in found.items():
            made[f"left/{name}"] = factors.left
            if factors.bias is not None:
                made[f"bias/{name}"] = factors.bias
            if factors.order is not None:
                made[f"order/{name}"] = factors.order
    _save(Path(task.output), made)
    return b""


def _read(name: str, tensors: Mapping[str, Tensor]) -> SiteInputs:
    key = input_key(name)
    return SiteInputs(
        weight=tensors[f"weight/{name}"],
        bias=tensors.get(f"bias/{name}"),
        gram=tensors[f"gram/{key}"],
        mean=tensors[f"mean/{key}"],
        mean_absolute=tensors.get(f"mean_absolute/{key}"),
        output_gram=tensors.get(f"output_gram/{name}"),
    )


def _write(path: Path, sites: Sites, stats: CalibrationStats) -> FactorTask:
    tensors: dict[str, Tensor] = {}
    for name, (_, module) in sites.items():
        key, found = input_key(name), site_inputs(name, module, stats)
        given = {
            f"weight/{name}": found.weight,
            f"bias/{name}": found.bias,
            f"gram/{key}": found.gram,
            f"mean/{key}": found.mean,
            f"mean_absolute/{key}": found.mean_absolute,
            f"output_gram/{name}": found.output_gram,
        }
        tensors |= {label: tensor.contiguous() for label, tensor in given.items() if tensor is not None}
    inputs, output = (path.with_suffix(suffix).absolute() for suffix in (".in", ".out"))
    _save(inputs, tensors)
    return FactorTask(edits=tuple(edit for edit, _ in sites.values()), inputs=str(inputs), output=str(output))


def _save(path: Path, tensors: dict[str, Tensor]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, path)
    except (SafetensorError, OSError) as error:
        raise DeviceError(f"{path} cannot be written ({error}); free space or choose another folder.") from error


def _load(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise DeviceError(
            f"{path} cannot be read ({error}); the disk fails, or is not shared with the workers."
        ) from error
