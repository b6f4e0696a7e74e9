"""Second moments of one block's inputs at a time, in a model whose earlier blocks are edited already.

Truncations one after another compound when each is fitted to inputs that only the dense model would give it. Here the
hidden states of the calibration text walk through the model once: before a block is edited its inputs are measured
under all earlier edits, and afterwards the edited block moves the states on.

Takes a model and token windows [n, seq]; holds the hidden states of as many as fit into 128 MiB (43,000 tokens of a
768 wide model). Products are float32 within a batch and added up in float64, as calibration does.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.calibrate.statistics import input_key
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.model import site_name

__all__ = ["HiddenStates", "Moments"]

_TOKENS_AT_ONCE = 1024
_STATES_BYTES = 128 * 2**20


class _ReachedBlock(Exception):  # noqa: N818 - a signal, not an error
    """Ends the forward pass once the first block's arguments are known."""


@dataclass(frozen=True)
class Moments:
    """Statistics of one input key."""

    gram: Tensor
    """[in, in] float64, mean over tokens of x x^T."""
    mean: Tensor
    """[in] float64."""


@dataclass(frozen=True)
class _Batch:
    """What a block is called with: states [n, seq, hidden], and positions and masks that all blocks share."""

    states: Tensor
    positional: tuple[Any, ...]
    settings: dict[str, Any]

    def run(self, block: nn.Module) -> Tensor:
        output = block(self.states, *self.positional, **self.settings)
        return output[0] if isinstance(output, tuple) else output


class HiddenStates:
    """The calibration text on its way through the blocks."""

    def __init__(self, loaded: LoadedModel, tokens: Tensor) -> None:
        """Embed the windows; the first block is next."""
        self._loaded = loaded
        window_bytes = 4 * loaded.spec.hidden_size * tokens.shape[1]
        tokens = tokens[: max(1, _STATES_BYTES // window_bytes)]
        self._token_count = tokens.numel()
        windows = max(1, _TOKENS_AT_ONCE // tokens.shape[1])
        self._batches = [_block_arguments(loaded, batch.long()) for batch in tokens.split(windows)]

    def moments(self, position: int) -> dict[str, Moments]:
        """By input key: statistics of the block's inputs as it is now; the states stay where they are."""
        block = self._block(position)
        index = self._loaded.block_indices[position]
        sums: dict[str, tuple[Tensor, Tensor]] = {}
        handles = []
        for role in self._loaded.adapter.roles:
            key = input_key(site_name(index, role))
            site = self._loaded.adapter.site(block, role)
            if key not in sums:
                width = int(site.in_features)  # type: ignore[arg-type]
                sums[key] = torch.zeros(width, width, dtype=torch.float64), torch.zeros(width, dtype=torch.float64)
                handles.append(site.register_forward_pre_hook(_adder(*sums[key])))
        try:
            for batch in self._batches:
                batch.run(block)
        finally:
            for handle in handles:
                handle.remove()
        return {
            key: Moments(gram=gram / self._token_count, mean=total / self._token_count)
            for key, (gram, total) in sums.items()
        }

    def advance(self, position: int) -> None:
        """Move the states through the block as it is now."""
        block = self._block(position)
        self._batches = [replace(batch, states=batch.run(block)) for batch in self._batches]

    def _block(self, position: int) -> nn.Module:
        return self._loaded.adapter.blocks(self._loaded.model)[position]


def _adder(gram: Tensor, total: Tensor) -> Any:
    def add(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
        flat = args[0].reshape(-1, args[0].shape[-1])
        gram.add_(flat.T @ flat)
        total.add_(flat.sum(dim=0))

    return add


def _block_arguments(loaded: LoadedModel, tokens: Tensor) -> _Batch:
    seen: list[_Batch] = []

    def see(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        states, *positional = args
        seen.append(_Batch(states=states, positional=tuple(positional), settings=kwargs))
        raise _ReachedBlock

    first = loaded.adapter.blocks(loaded.model)[0]
    handle = first.register_forward_pre_hook(see, with_kwargs=True)
    try:
        loaded.model.base_model(input_ids=tokens, use_cache=False)
    except _ReachedBlock:
        pass
    finally:
        handle.remove()
    return seen[0]
