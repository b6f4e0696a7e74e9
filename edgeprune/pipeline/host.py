"""Predicts what the work needs on this machine, so that a refusal comes before the first minute is spent.

Memory: the libraries, the float32 model twice (dense and edited), float64 Grams of every site input twice
(domain and general text), and the logits of one calibration batch; each worker process beside this one has its
own libraries, model, Grams and logits. Disk: one float32 folder, the float32 dense bundle, 8-bit and 4-bit bundles, the
chosen bundle (at most the dense one) and the statistics; or, before all these, the parts of an unfinished calibration.
"""

import shutil
from pathlib import Path

from edgeprune.errors import DeviceError, UsageError
from edgeprune.runtime.memory import available_bytes
from edgeprune.schema.model import ModelSpec
from edgeprune.schema.run import HostNeeds
from edgeprune.units import format_bytes

__all__ = ["calibration_parts", "check_needs", "fitting_workers", "free_resources", "predict_needs"]

LIBRARY_BYTES = 700_000_000
"""A process with torch, transformers, onnxruntime and mobius imported (0.55 GB), and a measuring child (0.15 GB)."""

RECOVERY_BYTES = 512 << 20
"""Hidden states that blocks are trained on; beside them stand `_TRAINING_MODELS`."""

_TRAINING_MODELS = 5
"""Gradients, a moment, the mean and the best weights, and the model that is learned from."""

_BATCH_TOKENS = 4 * 512


def predict_needs(spec: ModelSpec, folder: Path, *, worker_count: int = 1, recovers: bool = False) -> HostNeeds:
    """Memory and disk of a whole run of this model in so many processes, with a recovery or not, and what is free."""
    weights = 4 * spec.parameter_count
    grams = 0
    for block in spec.blocks:
        attention = block.num_heads * block.head_dim
        grams += 8 * (2 * spec.hidden_size**2 + attention**2 + block.intermediate_size**2)
    logits = 4 * _BATCH_TOKENS * spec.vocab_size
    workers = 0 if worker_count == 1 else worker_count * (LIBRARY_BYTES + 2 * weights + grams + 3 * logits)
    trained = _TRAINING_MODELS * weights if recovers else 0
    training = trained + RECOVERY_BYTES if recovers else 0
    outputs = round(weights * (1 + 1 + 1 + 0.28 + 0.16)) + grams
    free_memory, free_disk = free_resources(folder)
    return HostNeeds(
        memory_bytes=LIBRARY_BYTES + 2 * weights + max(2 * grams, training) + 3 * logits + workers,
        disk_bytes=max(outputs + trained, calibration_parts(grams) * grams) + 20_000_000,
        free_memory_bytes=free_memory,
        free_disk_bytes=free_disk,
    )


def free_resources(folder: Path) -> tuple[int | None, int]:
    """Memory available here, and bytes free where a folder is or will be."""
    existing = folder
    while not existing.exists():
        existing = existing.parent
    return available_bytes(), shutil.disk_usage(existing).free


def fitting_workers(
    spec: ModelSpec, folder: Path, *, worker_count: int, limit_bytes: int | None, recovers: bool = False
) -> int:
    """As many processes as were asked for, or the most that keep within a limit on memory; 1 where none does."""
    for count in range(worker_count, 1, -1):
        needs = predict_needs(spec, folder, worker_count=count, recovers=recovers)
        if limit_bytes is None or needs.memory_bytes <= limit_bytes:
            return count
    return 1


def calibration_parts(gram_bytes: int) -> int:
    """Files of all Grams that a calibration leaves until it is finished; `calibrate/shards.py` splits it so."""
    parts = min(8, (4 << 30) // max(1, gram_bytes))
    return parts if parts > 1 else 0


def check_needs(needs: HostNeeds, *, max_host_memory_bytes: int | None = None) -> None:
    """Refuse work that cannot end well here, or would take more memory than it is allowed.

    Raises:
        DeviceError: too little disk or memory.
        UsageError: more memory than allowed.
    """
    if max_host_memory_bytes is not None and needs.memory_bytes > max_host_memory_bytes:
        raise UsageError(
            f"About {format_bytes(needs.memory_bytes)} of memory are needed, and --max-host-memory allows "
            f"{format_bytes(max_host_memory_bytes)}; allow more, take a smaller model, or apply a recipe of your own "
            "block by block: edgeprune export MODEL --recipe FILE."
        )
    if needs.free_disk_bytes is not None and needs.disk_bytes > needs.free_disk_bytes:
        raise DeviceError(
            f"The run needs about {format_bytes(needs.disk_bytes)} of disk and {format_bytes(needs.free_disk_bytes)} "
            "are free; free space or choose another disk with -o."
        )
    if needs.free_memory_bytes is not None and needs.memory_bytes > needs.free_memory_bytes:
        raise DeviceError(
            f"The run needs about {format_bytes(needs.memory_bytes)} of memory and "
            f"{format_bytes(needs.free_memory_bytes)} are available; close programs or use a larger host."
        )
