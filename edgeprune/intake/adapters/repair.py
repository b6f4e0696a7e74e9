"""An operator on what a block reads, in the place of parts that were dropped before it: x <- x + operator(x).

The operator is a module of the block, so it is copied, counted and saved with it; blocks keep their own classes.
"""

from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

__all__ = ["remove_repair", "repair_of", "set_repair"]

_NAME = "repair"


def set_repair(block: nn.Module, operator: nn.Module) -> RemovableHandle:
    """Let an operator [..., hidden] -> [..., hidden] work on the block's input; `remove_repair` undoes it."""
    assert repair_of(block) is None
    block.add_module(_NAME, operator)
    return block.register_forward_pre_hook(_add_repair, with_kwargs=True, prepend=True)


def remove_repair(block: nn.Module, handle: RemovableHandle) -> None:
    """Undo `set_repair`."""
    handle.remove()
    delattr(block, _NAME)


def repair_of(block: nn.Module) -> nn.Module | None:
    """The operator on the block's input, or None."""
    return dict(block.named_children()).get(_NAME)


def _add_repair(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], Any]:
    # Not a method of anything: a copied block carries the same function, which reads the copied block's operator.
    operator = block.get_submodule(_NAME)
    if args:
        return (args[0] + operator(args[0]), *args[1:]), kwargs
    hidden = kwargs["hidden_states"]
    return args, {**kwargs, "hidden_states": hidden + operator(hidden)}
