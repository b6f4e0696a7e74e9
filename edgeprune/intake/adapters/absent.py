"""What stands in a torch model where a block's attention or MLP was removed: a zero for the residual stream to add.

The zero is a scalar, so nothing of the removed part is stored or computed.
"""

import torch
from torch import nn

__all__ = ["AbsentAttention", "AbsentMlp"]


class AbsentAttention(nn.Module):
    """Attention that contributes nothing and keeps no keys and values."""

    def forward(self, *args: torch.Tensor, **kwargs: torch.Tensor) -> tuple[torch.Tensor, None]:
        """The pair (output, weights) that attention modules give."""
        hidden = args[0] if args else kwargs["hidden_states"]
        return hidden.new_zeros(()), None


class AbsentMlp(nn.Module):
    """MLP that contributes nothing."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """A scalar zero of the input's dtype."""
        return hidden_states.new_zeros(())
