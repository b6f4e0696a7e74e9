"""What a graph needs to know of a model besides shapes and matrices: norms, scales, windows, positions.

Read from a torch model by its adapter, in float32 and as the model computes with them: a gain that is stored as its
difference from one is here the gain itself, rotary tables are what the model's own module makes.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

__all__ = ["AttentionWiring", "BlockWiring", "DecoderWiring", "NormWiring", "RotaryTable"]

RotaryTable = tuple[Tensor, Tensor]
"""Cosines and sines, [context, rotated dimensions / 2] float32 each; dimension i turns with i + half of them."""


@dataclass(frozen=True, kw_only=True)
class NormWiring:
    """One norm over the last axis."""

    kind: Literal["rms", "layer"]
    gain: Tensor
    """[width]."""
    bias: Tensor | None
    """[width]; None where there is none."""
    epsilon: float


@dataclass(frozen=True, kw_only=True)
class AttentionWiring:
    """How a block attends."""

    scale: float
    """Factor on the products of queries and keys."""
    window: int | None = None
    """Tokens it attends to, itself included; None: all."""
    logit_cap: float | None = None
    """Products become cap * tanh(product / cap)."""
    rotary: str | None = None
    """Key of its rotary table; None where queries and keys are not rotated."""
    query_norm: NormWiring | None = None
    """Norm over each head's queries, before they are rotated."""
    key_norm: NormWiring | None = None


@dataclass(frozen=True, kw_only=True)
class BlockWiring:
    """One block, in its parts that are left."""

    attention: AttentionWiring | None
    """None where it was dropped."""
    attention_norm: NormWiring | None
    attention_out_norm: NormWiring | None
    """On what the attention gives, before it is added to the residual stream."""
    mlp_norm: NormWiring | None
    """None where the MLP was dropped."""
    mlp_out_norm: NormWiring | None
    is_parallel: bool = False
    """The MLP reads what the attention reads, not what it leaves."""


@dataclass(frozen=True, kw_only=True)
class DecoderWiring:
    """A whole decoder."""

    blocks: tuple[BlockWiring, ...]
    final_norm: NormWiring
    activation: str
    """Of the MLPs, by its name in transformers."""
    rotary: dict[str, RotaryTable]
    positions: Tensor | None
    """[context, hidden] learned positions, from that of position 0; None for rotary ones."""
    embedding_scale: float | None = None
    """Factor on what the embedding gives; None: 1."""
    logit_cap: float | None = None
    """Logits become cap * tanh(logits / cap)."""
