"""`WiredAdapter`: adapters that also tell a model's wiring, so that its graph can be built from that alone.

A family states paths and overrides what differs; facts are read from the modules and not from the configuration where
both have them, because an edited model's blocks may differ.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from edgeprune.intake.adapters.absent import AbsentAttention, AbsentMlp
from edgeprune.intake.adapters.base import Adapter
from edgeprune.intake.adapters.wiring import AttentionWiring, BlockWiring, DecoderWiring, NormWiring, RotaryTable

__all__ = ["ROTARY", "WiredAdapter"]

ROTARY = "rotary"
"""Key of the one rotary table of most models."""


class WiredAdapter(Adapter):
    """Base of the adapters whose families the exporter wires itself."""

    rotary_path: str | None = "model.rotary_emb"
    """Module path of what makes the rotary tables; None for learned positions."""
    query_norm_path: str | None = None
    """Module paths of the norms on each head's queries and keys, relative to the block."""
    key_norm_path: str | None = None
    gain_offset: float = 0.0
    """What is added to a stored gain of a norm without bias."""
    position_offset: int = 0
    """Rows of the position table before that of position 0."""
    activation_key: str = "hidden_act"
    """Field of the configuration that names the activation."""

    def wiring(self, model: PreTrainedModel, *, context_tokens: int) -> DecoderWiring:
        """The wiring of a model, edited or not.

        Args:
            model: as `prepare` left it, or compression.
            context_tokens: rows of rotary and position tables.

        Raises:
            ExportError: the context is longer than the model's positions mean one thing for.
        """
        blocks = tuple(self._block(model, block) for block in self.blocks(model))
        keys = sorted({block.attention.rotary for block in blocks if block.attention is not None} - {None}, key=str)
        table = self.position_table(model)
        rows = slice(self.position_offset, self.position_offset + context_tokens)
        return DecoderWiring(
            blocks=blocks,
            final_norm=self.norm(self.final_norm(model)),
            activation=getattr(model.config, self.activation_key),
            rotary={key: self.rotary_table(model, key, context_tokens) for key in keys if key is not None},
            positions=None if table is None else table.weight.detach()[rows],
            embedding_scale=self.embedding_scale(model),
            logit_cap=self.logit_cap(model),
        )

    def norm(self, module: nn.Module) -> NormWiring:
        """One norm of this family."""
        weight = module.weight
        assert isinstance(weight, torch.Tensor)
        gain = weight.detach()
        if isinstance(module, nn.LayerNorm):
            return NormWiring(kind="layer", gain=gain, bias=module.bias.detach(), epsilon=module.eps)
        attribute = "variance_epsilon" if hasattr(module, "variance_epsilon") else "eps"
        return NormWiring(
            kind="rms", gain=gain + self.gain_offset, bias=None, epsilon=float(getattr(module, attribute))
        )

    def attention(self, model: PreTrainedModel, attention: Any) -> AttentionWiring:
        """How one attention module attends, without its norms."""
        return AttentionWiring(
            scale=float(attention.scaling),
            window=getattr(attention, "sliding_window", None),
            rotary=None if self.rotary_path is None else ROTARY,
        )

    def rotary_table(self, model: PreTrainedModel, key: str, context_tokens: int) -> RotaryTable:
        """The table of that key, as the model's own module makes it."""
        assert self.rotary_path is not None
        return halves(model.get_submodule(self.rotary_path), context_tokens)

    def embedding_scale(self, model: PreTrainedModel) -> float | None:
        """Factor on what the embedding gives."""
        return None

    def is_parallel(self, block: nn.Module) -> bool:
        """Whether a block's MLP reads what its attention reads."""
        return False

    def _block(self, model: PreTrainedModel, block: nn.Module) -> BlockWiring:
        modules = dict(block.named_modules())
        attention = modules[self.attention_path]
        wired = None
        if not isinstance(attention, AbsentAttention):
            wired = self.attention(model, attention)
            if self.query_norm_path is not None and self.key_norm_path is not None:
                query_norm, key_norm = (self.norm(modules[path]) for path in (self.query_norm_path, self.key_norm_path))
                wired = replace(wired, query_norm=query_norm, key_norm=key_norm)

        def norm_at(path: str | None) -> NormWiring | None:
            module = None if path is None else modules.get(path)
            return None if module is None or isinstance(module, nn.Identity) else self.norm(module)

        return BlockWiring(
            attention=wired,
            attention_norm=norm_at(self.attention_norm_path),
            attention_out_norm=norm_at(self.attention_out_norm_path),
            mlp_norm=None if isinstance(modules[self.mlp_path], AbsentMlp) else norm_at(self.mlp_norm_path),
            mlp_out_norm=norm_at(self.mlp_out_norm_path),
            is_parallel=self.is_parallel(block),
        )


@torch.no_grad()
def halves(rotary: nn.Module, context_tokens: int, **which: str) -> RotaryTable:
    """Cosines and sines of positions 0, 1, ..., one half each: transformers' modules repeat it."""
    positions = torch.arange(context_tokens)[None]
    cosines, sines = rotary(torch.zeros(1, 1, 1), positions, **which)
    half = cosines.shape[-1] // 2
    return cosines[0, :, :half].contiguous(), sines[0, :, :half].contiguous()
