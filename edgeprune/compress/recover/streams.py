"""Single blocks of a model, run by themselves on hidden states.

What else a block is called with (masks, rotary tables, positions) depends only on the shape of the batch: one pass
over one batch tells it, for every family, and no forward of any family is written anew. All batches have one shape. A
block's input is taken before an operator that stands for dropped parts works on it: that operator runs with the block.
"""

from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.calibrate.loss import hidden_states
from edgeprune.intake.load import LoadedModel

__all__ = ["Blocks"]


class _Stop(Exception):  # noqa: N818 - no error: it ends a pass whose rest is not needed
    """The first block was reached."""


class Blocks:
    """The blocks of one model, for batches of one shape."""

    def __init__(self, loaded: LoadedModel, example: Tensor) -> None:
        """Learn how the blocks are called.

        Args:
            loaded: the model; its weights may change later, its blocks may not.
            example: [batch, seq] int64, any tokens of the shape that all batches will have.
        """
        self._loaded = loaded
        self._modules = list(loaded.adapter.blocks(loaded.model))
        self._calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        handles = [
            block.register_forward_pre_hook(self._see, with_kwargs=True, prepend=True) for block in self._modules
        ]
        try:
            with torch.no_grad():
                hidden_states(loaded, example)
        finally:
            for handle in handles:
                handle.remove()

    def __len__(self) -> int:
        return len(self._modules)

    def module(self, position: int) -> nn.Module:
        """The block at a position."""
        return self._modules[position]

    @torch.no_grad()
    def inputs(self, tokens: Tensor) -> Tensor:
        """What enters the first block: tokens [batch, seq] int64 -> [batch, seq, hidden]."""
        seen: list[Tensor] = []

        def stop(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            seen.append(args[0] if args else kwargs["hidden_states"])
            raise _Stop

        handle = self._modules[0].register_forward_pre_hook(stop, with_kwargs=True, prepend=True)
        try:
            hidden_states(self._loaded, tokens)
        except _Stop:
            pass
        finally:
            handle.remove()
        return seen[0]

    def run(self, position: int, hidden: Tensor) -> Tensor:
        """One block: [batch, seq, hidden] -> the same; differentiable where gradients are taken."""
        args, kwargs = self._calls[position]
        output: Tensor | tuple[Tensor, ...] = self._modules[position](hidden, *args, **kwargs)
        return output[0] if isinstance(output, tuple) else output

    def _see(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        others = {name: value for name, value in kwargs.items() if name != "hidden_states"}
        self._calls.append((tuple(args[1:]), others))
