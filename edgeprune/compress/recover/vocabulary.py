"""The dense model as a teacher of a model whose vocabulary may be a part of its own.

The student's tokens are tokens of the dense model under other ids, so the dense model reads the student's windows, and
its predictions count among the tokens that are left. A training comes back to the same windows again and again, and the
dense model does not change: what it made of a window is kept, within `HIDDEN_BYTES`.
"""

import torch
from torch import Tensor

from edgeprune.calibrate.loss import fused_attention, hidden_states
from edgeprune.errors import ModelError
from edgeprune.intake.load import LoadedModel

__all__ = ["HIDDEN_BYTES", "Teacher"]

HIDDEN_BYTES = 512 << 20
"""Of the hidden states that are kept, whatever the text."""


class Teacher:
    """A dense model that reads windows of a student's ids; nothing of it is trained or changed."""

    def __init__(self, dense: LoadedModel, student: LoadedModel) -> None:
        """Match the vocabularies.

        Raises:
            ModelError: the student knows a token that the dense model does not.
        """
        self.dense = dense
        self.ids = _dense_ids(dense, student)
        weight = dense.adapter.head(dense.model).weight.detach()
        self.head = weight if self.ids is None else weight[self.ids.to(weight.device)]
        """[student's vocab, hidden] float32: rows of the dense head."""
        self._kept: dict[bytes, Tensor] = {}
        self._kept_bytes = 0

    def tokens(self, windows: Tensor) -> Tensor:
        """Windows of the student's ids in the dense model's, same shape."""
        return windows if self.ids is None else self.ids.to(windows.device)[windows]

    @torch.no_grad()
    def hidden(self, windows: Tensor) -> Tensor:
        """Hidden states before the head: windows [n, seq] int64 -> [n, seq, hidden].

        float32, or bfloat16 for windows read before where products are computed in it: all that follows is a product.
        """
        keys = [row.numpy().tobytes() for row in windows.cpu()]
        if all(key in self._kept for key in keys):
            return torch.stack([self._kept[key] for key in keys])
        with fused_attention(self.dense):
            found = hidden_states(self.dense, self.tokens(windows))
        self._keep(keys, found.bfloat16() if torch.is_autocast_enabled(found.device.type) else found)
        return found

    def keeps(self, window_count: int, window_tokens: int) -> bool:
        """Whether the states of that many windows are kept, so that each is read once."""
        return 4 * window_count * window_tokens * self.head.shape[1] <= HIDDEN_BYTES

    def _keep(self, keys: list[bytes], states: Tensor) -> None:
        for key, state in zip(keys, states, strict=True):
            size = state.numel() * state.element_size()
            if key not in self._kept and self._kept_bytes + size <= HIDDEN_BYTES:
                self._kept[key] = state.clone()
                self._kept_bytes += size


def _dense_ids(dense: LoadedModel, student: LoadedModel) -> Tensor | None:
    """[student's vocab] int64, the dense model's id of each token; None when the ids are the same."""
    if student.tokenizer is dense.tokenizer:
        return None
    texts = [student.tokenizer.id_to_token(number) for number in range(student.spec.vocab_size)]
    found = [None if text is None else dense.tokenizer.token_to_id(text) for text in texts]
    ids = [number for number in found if number is not None]
    if len(ids) != len(found):
        raise ModelError(
            "The compressed model knows tokens the dense one does not, so it cannot learn from it; compress again "
            "from the same model."
        )
    return torch.tensor(ids)
