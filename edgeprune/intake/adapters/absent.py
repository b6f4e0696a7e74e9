"""What stands in a torch model where a block's attention or MLP was removed: a zero for the residual stream to add.

The zero is a scalar, so nothing of the removed part is stored or computed.
"""

from typing import Any

import torch
from torch import nn

__all__ = ["AbsentAttention", "AbsentMlp"]


class AbsentAttention(nn.Module):
    """Attention that contributes nothing and keeps no keys and values."""

    def __init__(self) -> None:
        """Without an entry in the cache."""
        super().__init__()
        self.layer_idx: int | None = None
        """Entry of transformers' cache that is kept in step, one number a token; None where entries are renumbered.

        Where blocks of a model attend to windows of different sizes, the entries' kinds follow the configuration by
        position, so none may be left out, and the length of the text is read from the first of each kind."""

    def forward(self, *args: torch.Tensor, **kwargs: Any) -> tuple[torch.Tensor, None]:
        """The pair (output, weights) that attention modules give."""
        hidden: torch.Tensor = args[0] if args else kwargs["hidden_states"]
        cache = kwargs.get("past_key_values")
        if self.layer_idx is not None and cache is not None:
            token_count = hidden.new_zeros(hidden.shape[0], 1, hidden.shape[1], 1)
            cache.update(token_count, token_count, self.layer_idx)
        return hidden.new_zeros(()), None


class AbsentMlp(nn.Module):
    """MLP that contributes nothing."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """A scalar zero of the input's dtype."""
        return hidden_states.new_zeros(())
