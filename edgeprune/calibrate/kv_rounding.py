"""Keys and values rounded to 8 bits as an int8 cache holds them: scales from text, and torch computing with them.

onnxruntime's GroupQueryAttention rounds keys (after rotary) and values when it writes them into the cache and reads all
of them back from there, those of the current tokens too. Symmetric, one scale a channel of a head, fixed when the
bundle is made:

    scale = largest |x| on calibration text / 127,    x_q = clip(round_half_even(x / scale), -128, 127)          (1)

Channels rather than heads share a scale because a few channels of keys are far larger than the others and the same for
every token (KIVI, arXiv 2402.02750, section 3). A value beyond the largest that calibration saw is clipped.

Works through transformers' own registry of attention functions, so it holds for every family that has one: what is
seen are the keys and values a block's attention is called with.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from edgeprune.calibrate.capture import batch_windows, check_windows
from edgeprune.calibrate.loss import hidden_states
from edgeprune.errors import ModelError
from edgeprune.intake.load import LoadedModel

__all__ = ["CacheScales", "measure_cache_scales", "rounded_cache"]

_NAME = "edgeprune_seen"
_See = Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Number of the key-value pair, keys and values [batch, kv_heads, tokens, head_dim]; gives what is computed with."""


_watcher: ContextVar[Callable[[nn.Module, Tensor, Tensor], tuple[Tensor, Tensor]]] = ContextVar(_NAME)


@dataclass(frozen=True, kw_only=True)
class CacheScales:
    """Scales of one block's cache."""

    key: Tensor
    """[kv_heads, head_dim] float32, of keys after rotary embedding; positive."""
    value: Tensor
    """[kv_heads, head_dim] float32; positive."""


@torch.no_grad()
def measure_cache_scales(loaded: LoadedModel, tokens: Tensor) -> tuple[CacheScales, ...]:
    """Scales of every block that attends, in the order of their key-value pairs.

    Args:
        loaded: the model as it will be exported.
        tokens: [n, seq] int32 calibration windows in the model's own vocabulary; padding, if any, at the end.

    Raises:
        CalibrationError: no windows.
        ModelError: the model's attention cannot be watched.
    """
    check_windows(tokens)
    largest: dict[int, tuple[Tensor, Tensor]] = {}

    def see(pair: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        found = tuple(part.abs().amax(dim=(0, 2)) for part in (key, value))
        before = largest.get(pair)
        largest[pair] = (found[0], found[1]) if before is None else _larger(before, found)
        return key, value

    with _watched_attention(loaded, see):
        for batch in tokens.long().split(batch_windows(tokens.shape[1])):
            hidden_states(loaded, batch)
    return tuple(
        CacheScales(key=_scale(largest[pair][0]), value=_scale(largest[pair][1]))
        for pair in range(len(loaded.spec.attention_blocks))
    )


@contextmanager
def rounded_cache(loaded: LoadedModel, scales: Sequence[CacheScales]) -> Iterator[None]:
    """While open, the torch model computes with keys and values as the int8 cache holds them.

    Raises:
        ModelError: the model's attention cannot be watched.
    """

    def see(pair: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        return _rounded(key, scales[pair].key), _rounded(value, scales[pair].value)

    with _watched_attention(loaded, see):
        yield


def _scale(largest: Tensor) -> Tensor:
    # A channel that never moved gets a scale all the same: the runtime divides by it.
    return (largest.float() / 127).clamp(min=1e-8).contiguous()


def _larger(before: tuple[Tensor, Tensor], found: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    return torch.maximum(before[0], found[0]), torch.maximum(before[1], found[1])


def _rounded(values: Tensor, scale: Tensor) -> Tensor:
    steps = scale[None, :, None, :]
    return (values / steps).round().clamp(-128, 127) * steps  # eq. (1)


@contextmanager
def _watched_attention(loaded: LoadedModel, see: _See) -> Iterator[None]:
    """Route the model's attention through `see`; everything is as before afterwards."""
    numbers = _pair_numbers(loaded)
    reached: set[int] = set()

    def numbered(module: nn.Module, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        pair = numbers[id(module)]
        reached.add(pair)
        return see(pair, key, value)

    config = loaded.model.config
    before = config._attn_implementation
    token = _watcher.set(numbered)
    try:
        config._attn_implementation = _NAME
        yield
    finally:
        config._attn_implementation = before
        _watcher.reset(token)
    if reached and len(reached) != len(numbers):
        raise ModelError(
            f"Of {len(numbers)} attentions of {loaded.spec.name} only {len(reached)} could be seen, so its cache "
            "cannot have 8 bits; leave --kv-bits 8 out."
        )


def _attention(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Any:
    """What transformers calls in the place of a family's eager attention while a model is watched."""
    # Each family has its own eager function (soft caps, sinks), beside the class of its attention.
    eager = sys.modules[type(module).__module__].eager_attention_forward
    return eager(module, query, *_watcher.get()(module, key, value), *args, **kwargs)


# Registered for good, as transformers means it; which model is watched is in the context.
AttentionInterface.register(_NAME, _attention)
AttentionMaskInterface.register(_NAME, eager_mask)


def _pair_numbers(loaded: LoadedModel) -> dict[int, int]:
    """Identity of an attention module -> number of its key-value pair."""
    adapter = loaded.adapter
    blocks = zip(adapter.blocks(loaded.model), loaded.spec.blocks, strict=True)
    attending = [block for block, spec in blocks if spec.has_attention]
    return {id(block.get_submodule(adapter.attention_path)): number for number, block in enumerate(attending)}
