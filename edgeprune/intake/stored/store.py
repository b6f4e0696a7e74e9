"""`WeightStore`: where the weights that compression makes wait on disk, so that one matrix is held at a time.

Each tensor goes into a file of its own that has no name any more once it is written: it takes disk for as long as the
tensor lives and leaves nothing behind, however the process ends. The folder must lie on a disk; one in memory would
save nothing.
"""

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.errors import DeviceError
from edgeprune.intake.stored.mapped import MappedFile, MappedSource
from edgeprune.intake.stored.packed import PackedSource, pack_integers
from edgeprune.intake.stored.weight import StoredWeight
from edgeprune.rounding import stored_integers
from edgeprune.schema.kernel import parse_kernel

__all__ = ["KEPT_ABOVE_BYTES", "WeightStore", "keep_rounded", "keep_sites", "kept_integers", "store_of"]

KEPT_ABOVE_BYTES = 1 << 18
"""Smaller tensors stay in memory: norms, biases, the sites of test models."""

_ATTRIBUTE = "weight_store"


class WeightStore:
    """Keeps tensors in files of a folder."""

    def __init__(self, folder: Path, *, kept_above_bytes: int = KEPT_ABOVE_BYTES) -> None:
        """Name the folder; it is created when something is kept."""
        self.folder = folder
        self.kept_above_bytes = kept_above_bytes

    def __deepcopy__(self, memo: dict[int, Any]) -> "WeightStore":
        """A copied model keeps its weights in the same place."""
        return self

    def keep(self, tensor: Tensor) -> Tensor:
        """The same float32 values [rows, columns] on the pages of a file; small and stored ones as they are.

        Raises:
            DeviceError: the disk is full or cannot be written.
        """
        if isinstance(tensor, StoredWeight) or 4 * tensor.numel() < self.kept_above_bytes:
            return tensor
        return self._written(tensor.detach().float())

    def keep_exactly(self, tensor: Tensor) -> Tensor:
        """The same values of the same dtype on the pages of a file, whatever their number; nobody may write into it.

        Raises:
            DeviceError: the disk is full or cannot be written.
        """
        return self._written(tensor.detach())

    def keep_rounded(self, weight: Tensor, kernel: str) -> Tensor:
        """A matrix [out, in] that was rounded to a kernel, as the kernel stores it; small ones as they are.

        Raises:
            DeviceError: the disk is full or cannot be written.
        """
        parsed = parse_kernel(kernel)
        if isinstance(weight, StoredWeight) or 4 * weight.numel() < self.kept_above_bytes:
            return weight
        if parsed.kind == "float":
            if parsed.bits == 32:
                return self.keep(weight)
            return StoredWeight(MappedSource(self._written(weight.detach().half())))
        found = stored_integers(weight.detach().contiguous().numpy(), kernel)
        codes = pack_integers(torch.from_numpy(found.values), parsed.bits)
        columns = weight.shape[1]
        width = columns if parsed.block_size is None else parsed.block_size
        packed, scales = self._written(codes), self._written(torch.from_numpy(found.scales))
        return StoredWeight(PackedSource(packed, scales, bits=parsed.bits, columns=columns, width=width))

    def keep_module(self, module: nn.Module, kernel: str | None = None) -> nn.Module:
        """Exchange the matrices of a module for kept ones, in place; rounded ones where a kernel is given."""
        for part in module.modules():
            for name, parameter in list(part._parameters.items()):
                if parameter is None or parameter.ndim != 2:
                    continue
                kept = self.keep(parameter) if kernel is None else self.keep_rounded(parameter, kernel)
                if kept is not parameter:
                    part._parameters[name] = nn.Parameter(kept, requires_grad=False)
        return module

    def _written(self, tensor: Tensor) -> Tensor:
        values = tensor.contiguous()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder) as stream:
                stream.write(values.view(torch.uint8).numpy().data)
                stream.flush()
                return MappedFile(stream).tensor(values.dtype, tuple(values.shape), 0)
        except (OSError, ValueError) as error:
            raise DeviceError(
                f"{self.folder} cannot hold the weights ({error}); free space or choose another folder with -o."
            ) from error


def store_of(module: nn.Module) -> WeightStore | None:
    """Where the weights of a model or block are kept; None in memory."""
    found = getattr(module, _ATTRIBUTE, None)
    assert found is None or isinstance(found, WeightStore)
    return found


def keep_sites(model: nn.Module, blocks: nn.ModuleList, store: WeightStore) -> None:
    """From now on sites that are put into the model are kept in a store."""
    for module in (model, *blocks):
        setattr(module, _ATTRIBUTE, store)


def keep_rounded(owner: nn.Module, module: nn.Module, kernel: str) -> nn.Module:
    """A module rounded to a kernel, as the store of its owner (a model or block) keeps it; as it is without one."""
    store = store_of(owner)
    return module if store is None else store.keep_module(module, kernel)


def kept_integers(weight: Tensor, kernel: str) -> tuple[Tensor, Tensor] | None:
    """Integers [out, in] int8 and scales [out, blocks] float32 of a weight kept under a kernel's layout; else None."""
    source = weight.source if isinstance(weight, StoredWeight) else None
    if not isinstance(source, PackedSource):
        return None
    parsed = parse_kernel(kernel)
    width = source.shape[1] if parsed.block_size is None else parsed.block_size
    return (source.integers(), source.scales) if (source.bits, source.width) == (parsed.bits, width) else None
