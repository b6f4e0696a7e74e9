"""`BlockStream`: the hidden states of all windows, carried block by block through a model that is being edited.

A technique that prunes a block on the inputs the pruned blocks before it leave needs two passes of each block and no
more: one to measure, one to go on. What a block is called with besides its hidden states (masks, positions) depends on
the windows' shape alone and is taken from one pass of the whole model. Held: tokens x hidden float32.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.calibrate.accumulate import InputMoments
from edgeprune.calibrate.capture import batch_windows, check_windows
from edgeprune.calibrate.loss import hidden_states
from edgeprune.intake.load import LoadedModel

__all__ = ["BlockStream"]

_Call = tuple[tuple[Any, ...], dict[str, Any]]


class _ReachedBlocksError(Exception):
    """The first block was reached; nothing after it is wanted."""


class BlockStream:
    """Where all windows stand on their way through the blocks."""

    @torch.no_grad()
    def __init__(self, loaded: LoadedModel, tokens: Tensor) -> None:
        """Take windows [n, seq] int32 to the door of the first block.

        Raises:
            CalibrationError: no windows.
        """
        check_windows(tokens)
        self._blocks = loaded.adapter.blocks(loaded.model)
        batches = list(tokens.long().split(batch_windows(tokens.shape[1])))
        # All batches but the last have one size; what blocks are called with is the same for every batch of a size.
        self._calls = {
            size: _calls(loaded, self._blocks, batch) for size, batch in {len(b): b for b in batches}.items()
        }
        self._states = [_embedded(loaded, self._blocks[0], batch) for batch in batches]

    @property
    def states(self) -> list[Tensor]:
        """Hidden states as they stand, batch by batch: [n, seq, hidden] float32."""
        return self._states

    @torch.no_grad()
    def moments(self, position: int, site: nn.Module) -> tuple[Tensor, Tensor]:
        """Second moment [in, in] and mean [in], float64, of a site's input in the block that comes next."""
        found: list[InputMoments] = []

        def see(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
            flat = args[0].reshape(-1, args[0].shape[-1])
            if not found:
                found.append(InputMoments(flat.shape[1], seed=0))
            found[0].add(flat, half=0, with_noise=False)

        handle = site.register_forward_pre_hook(see)
        try:
            for states in self._states:
                self._run(position, states)
        finally:
            handle.remove()
        return found[0].take_gram(), found[0].mean

    @torch.no_grad()
    def grams(self, position: int, sites: Mapping[str, nn.Module]) -> dict[str, Tensor]:
        """Second moments [in, in] float64 of the inputs of sites of the block that comes next, by the sites' keys."""
        found: dict[str, Tensor] = {}
        counts: dict[str, int] = {}
        handles = []
        for key, site in sites.items():

            def see(_module: nn.Module, args: tuple[Tensor, ...], key: str = key) -> None:
                flat = args[0].reshape(-1, args[0].shape[-1])
                if key not in found:
                    found[key] = torch.zeros(flat.shape[1], flat.shape[1], dtype=torch.float64)
                found[key] += flat.T @ flat
                counts[key] = counts.get(key, 0) + len(flat)

            handles.append(site.register_forward_pre_hook(see))
        try:
            for states in self._states:
                self._run(position, states)
        finally:
            for handle in handles:
                handle.remove()
        return {key: gram.div_(counts[key]) for key, gram in found.items()}

    @torch.no_grad()
    def gram_after(self, norm: nn.Module) -> Tensor:
        """Second moment [hidden, hidden] float64 of what a norm gives of the hidden states as they stand."""
        total: Tensor | None = None
        count = 0
        for states in self._states:
            flat = norm(states).reshape(-1, states.shape[-1])
            part = (flat.T @ flat).double()
            total = part if total is None else total + part
            count += len(flat)
        assert total is not None, "there is a window at least"
        return total / count

    @torch.no_grad()
    def advance(self, position: int) -> None:
        """Go through the block, as it is now, to the next one."""
        for number, states in enumerate(self._states):
            self._states[number] = self._run(position, states)

    def _run(self, position: int, states: Tensor) -> Tensor:
        args, kwargs = self._calls[len(states)][position]
        output = self._blocks[position](states, *args, **kwargs)
        result: Tensor = output[0] if isinstance(output, tuple) else output
        return result


def _calls(loaded: LoadedModel, blocks: nn.ModuleList, batch: Tensor) -> list[_Call]:
    """What each block is called with besides the hidden states."""
    calls: list[_Call] = []

    def see(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        others = {name: value for name, value in kwargs.items() if name != "hidden_states"}
        calls.append((args[1:], others))

    handles = [block.register_forward_pre_hook(see, with_kwargs=True) for block in blocks]
    try:
        hidden_states(loaded, batch)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _embedded(loaded: LoadedModel, first: nn.Module, batch: Tensor) -> Tensor:
    """[n, seq, hidden] float32 as the first block sees it."""
    found: list[Tensor] = []

    def see(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found.append(args[0] if args else kwargs["hidden_states"])
        raise _ReachedBlocksError

    handle = first.register_forward_pre_hook(see, with_kwargs=True)
    try:
        hidden_states(loaded, batch)
    except _ReachedBlocksError:
        pass
    finally:
        handle.remove()
    return found[0]
