"""The loss of a model on token windows, in nats, without ever holding the logits of a whole batch.

`head_loss` works from the hidden states before the head, a few rows at a time, and gives the gradient with respect to
them in closed form (softmax minus the label), so a vocabulary of 150,000 costs no more memory than one of 8,000.
`measure_loss` sums the loss over documents cut into windows as validation cuts them: each document apart, the first
token of a window not scored.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import Cache

from edgeprune.intake.adapters.logit_cap import bend, bend_gradient
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.events import NullProgress, Progress

__all__ = ["HeadLoss", "cut_windows", "fused_attention", "head_loss", "hidden_states", "measure_loss"]

_LOGITS_AT_ONCE = 1 << 23
"""Logits computed together: 32 MiB of float32, and twice that with their softmax."""
_TOKENS_AT_ONCE = 2048
"""Tokens of one forward pass, padding included."""


@dataclass(frozen=True, kw_only=True)
class HeadLoss:
    """Loss of a batch and what its gradient needs."""

    nats: float
    """Sum over the scored tokens."""
    hidden_gradient: Tensor | None
    """Gradient of `nats` with respect to the hidden states, same shape; None when not asked for."""
    logit_gradient_square: float
    """Sum over tokens of the squared norm of the gradient with respect to the logits; 0 when not asked for."""


def hidden_states(
    loaded: LoadedModel, tokens: Tensor, *, embedded: Tensor | None = None, cache: Cache | None = None
) -> Tensor:
    """Hidden states after the final norm: tokens [n, seq] -> [n, seq, hidden] float32; a cache is read and extended."""
    embeddings = loaded.adapter.embedding(loaded.model)(tokens) if embedded is None else embedded
    output: Tensor = loaded.model.base_model(
        inputs_embeds=embeddings, past_key_values=cache, use_cache=cache is not None
    ).last_hidden_state
    return output


@contextmanager
def fused_attention(loaded: LoadedModel) -> Iterator[None]:
    """Let torch's fused kernel do the attention while the block runs, where the family's is scaled products alone.

    Losses agree to rounding (2e-8 of a sum of hidden states), and a pass of the demo model takes a quarter less time.
    Where the scores are bent, where transformers has no such form, or where somebody watches the attention, it stays.
    """
    config = loaded.model.config
    is_bent = getattr(config, "attn_logit_softcapping", None) is not None
    if config._attn_implementation != "eager" or is_bent or not loaded.model._supports_sdpa:
        yield
        return
    try:
        config._attn_implementation = "sdpa"
        yield
    finally:
        config._attn_implementation = "eager"


@torch.no_grad()
def head_loss(
    hidden: Tensor, head: nn.Linear, labels: Tensor, *, with_gradient: bool = False, cap: float | None = None
) -> HeadLoss:
    """Loss of predicting `labels` [rows] int64 from `hidden` [rows, hidden]; labels below 0 are not scored.

    With a cap logits are bent under it; gradients are those with respect to the head's products.
    """
    gradient = torch.zeros_like(hidden) if with_gradient else None
    nats = 0.0
    square = 0.0
    step = max(1, _LOGITS_AT_ONCE // head.weight.shape[0])
    for start in range(0, len(labels), step):
        label = labels[start : start + step]
        is_scored = label >= 0
        logits = bend(head(hidden[start : start + step]), cap)
        log_normalizer = torch.logsumexp(logits, dim=1)
        picked = label.clamp(min=0)[:, None]
        losses = log_normalizer - logits.gather(1, picked)[:, 0]
        nats += float(losses[is_scored].double().sum())
        if gradient is not None:
            bent = logits if cap is None else logits.clone()
            logits.sub_(log_normalizer[:, None]).exp_()
            logits.scatter_add_(1, picked, torch.full_like(losses, -1.0)[:, None])
            logits[~is_scored] = 0
            logits = bend_gradient(logits, bent, cap)
            square += float(logits.square().sum(dtype=torch.float64))
            gradient[start : start + step] = logits @ head.weight
    return HeadLoss(nats=nats, hidden_gradient=gradient, logit_gradient_square=square)


def cut_windows(documents: Sequence[Sequence[int]], window_tokens: int) -> list[list[int]]:
    """Windows of at most `window_tokens`, each document apart; windows of one token score nothing and are left out."""
    return [
        list(document[start : start + window_tokens])
        for document in documents
        for start in range(0, len(document), window_tokens)
        if len(document) - start > 1
    ]


@torch.no_grad()
def measure_loss(
    loaded: LoadedModel, windows: Sequence[Sequence[int]], *, progress: Progress | None = None
) -> tuple[float, int]:
    """Sum of the loss in nats over windows, and the number of scored tokens (all but the first of each window)."""
    watch = progress or NullProgress()
    nats = 0.0
    head, cap = loaded.adapter.head(loaded.model), loaded.adapter.logit_cap(loaded.model)
    for batch in _batches(windows):
        watch.raise_if_cancelled()
        length = max(map(len, batch))
        # Padding stands on the right of a causal model, so no scored token sees it; its label -1 is not scored.
        padded = torch.full((len(batch), length), -1, dtype=torch.long)
        for row, window in enumerate(batch):
            padded[row, : len(window)] = torch.tensor(window)
        with fused_attention(loaded):
            hidden = hidden_states(loaded, padded.clamp(min=0))
        labels = padded[:, 1:].reshape(-1)
        nats += head_loss(hidden[:, :-1].reshape(len(labels), -1), head, labels, cap=cap).nats
    return nats, sum(len(window) - 1 for window in windows)


def _batches(windows: Sequence[Sequence[int]]) -> Iterator[list[Sequence[int]]]:
    """Windows of similar length together, so that little of a batch is padding."""
    batch: list[Sequence[int]] = []
    for window in sorted(windows, key=len):
        if batch and len(window) * (len(batch) + 1) > _TOKENS_AT_ONCE:
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch
