"""`Adapter`: where blocks, sites, tables and norms stand in a torch model, and how whole parts are exchanged.

Stateless: every method takes the model or a block. A family states its module paths; the methods here are the same for
all. A site is always y = W x + b with W [out, in], and its module may be any replacement with the same in and out.
"""

from collections.abc import Sequence

import torch
from torch import nn
from transformers import PreTrainedModel

from edgeprune.intake.adapters.absent import AbsentAttention, AbsentMlp
from edgeprune.intake.stored.store import store_of
from edgeprune.schema.model import SiteRole

__all__ = ["Adapter"]


class Adapter:
    """Base of all adapters; subclasses fill the class attributes."""

    family: str
    """Name of the family file in `intake/families`."""
    site_paths: dict[SiteRole, str]
    """Role -> module path relative to the block, in the order of the forward pass."""
    blocks_path: str
    """Module path of the list of blocks."""
    embedding_path: str
    head_path: str = "lm_head"
    position_path: str | None = None
    """Module path of the table of learned positions; None for rotary models."""
    final_norm_path: str
    norm_paths: tuple[str, ...]
    """Module paths of a block's norms, relative to it; those a type lacks are skipped."""
    attention_path: str
    """Module path of a block's attention, relative to it, its inner norms included."""
    mlp_path: str
    attention_norm_path: str
    """Module path of the norm before the attention, relative to the block."""
    mlp_norm_path: str
    attention_out_norm_path: str | None = None
    """Module path of the norm on what the attention gives; None where there is none."""
    mlp_out_norm_path: str | None = None
    per_block_keys: tuple[str, ...] = ("layer_types",)
    """Fields of the configuration that hold one entry a block; those a type lacks are skipped."""

    @property
    def roles(self) -> tuple[SiteRole, ...]:
        """Roles of the sites of a block, in the order of the forward pass."""
        return tuple(self.site_paths)

    def prepare(self, model: PreTrainedModel) -> None:
        """Bring a freshly loaded model into the form the other methods expect; nothing to do by default."""

    def blocks(self, model: PreTrainedModel) -> nn.ModuleList:
        """The list of blocks, in order."""
        blocks = model.get_submodule(self.blocks_path)
        assert isinstance(blocks, nn.ModuleList)
        return blocks

    def module_path(self, role: SiteRole) -> str:
        """Path of a site relative to its block, such as `self_attn.q_proj`."""
        return self.site_paths[role]

    def block_path(self, position: int) -> str:
        """Path of a block in the model, such as `model.layers.3`; `position` counts the blocks that are present."""
        return f"{self.blocks_path}.{position}"

    def site(self, block: nn.Module, role: SiteRole) -> nn.Module:
        """The module of a site: an `nn.Linear` or what took its place."""
        return block.get_submodule(self.module_path(role))

    def present_roles(self, block: nn.Module) -> tuple[SiteRole, ...]:
        """Roles of the sites this block still has, in the order of the forward pass."""
        present = {
            path for path, module in block.named_modules() if not isinstance(module, (AbsentAttention, AbsentMlp))
        }
        return tuple(role for role in self.roles if self.module_path(role) in present)

    def set_site(self, block: nn.Module, role: SiteRole, module: nn.Module) -> None:
        """Put another module with the same input and output in the place of a site, kept where the block's are."""
        store = store_of(block)
        block.set_submodule(self.module_path(role), module if store is None else store.keep_module(module))

    def set_head_count(self, block: nn.Module, num_heads: int) -> None:
        """Tell a block's attention how many query heads it has left, where it does not see that from its matrices.

        The number of query heads to one key-value head never changes.
        """

    def embedding(self, model: PreTrainedModel) -> nn.Embedding:
        """The token embedding."""
        embedding = model.get_submodule(self.embedding_path)
        assert isinstance(embedding, nn.Embedding)
        return embedding

    def head(self, model: PreTrainedModel) -> nn.Linear:
        """The language-model head; shares its weight with the embedding when the model is tied."""
        head = model.get_submodule(self.head_path)
        assert isinstance(head, nn.Linear)
        return head

    def logit_cap(self, model: PreTrainedModel) -> float | None:
        """What logits are bent under, cap * tanh(head / cap); None: the head's product is the logits."""
        return None

    def is_tied(self, model: PreTrainedModel) -> bool:
        """Whether embedding and head are one tensor."""
        return self.head(model).weight is self.embedding(model).weight

    def position_table(self, model: PreTrainedModel) -> nn.Embedding | None:
        """The table of learned positions, or None."""
        if self.position_path is None:
            return None
        table = model.get_submodule(self.position_path)
        assert isinstance(table, nn.Embedding)
        return table

    def final_norm(self, model: PreTrainedModel) -> nn.Module:
        """The norm before the head."""
        return model.get_submodule(self.final_norm_path)

    def norms(self, block: nn.Module) -> dict[str, nn.Module]:
        """Path relative to the block -> norm."""
        present = dict(block.named_modules())
        return {path: present[path] for path in self.norm_paths if path in present}

    def set_tables(
        self, model: PreTrainedModel, embedding_weight: torch.Tensor, head_weight: torch.Tensor | None
    ) -> None:
        """Exchange the tables for ones of another vocabulary.

        Args:
            model: changed in place, configuration included.
            embedding_weight: [vocab, hidden] float32.
            head_weight: [vocab, hidden] float32, or None to tie the head to the embedding.
        """
        embedding, head = self.embedding(model), self.head(model)
        vocab_size = embedding_weight.shape[0]
        assert head_weight is None or head_weight.shape == embedding_weight.shape
        store = store_of(model)

        def own(weight: torch.Tensor) -> torch.Tensor:
            return weight.detach().clone() if store is None else store.keep(weight).detach()

        embedding.weight = nn.Parameter(own(embedding_weight), requires_grad=embedding.weight.requires_grad)
        embedding.num_embeddings = vocab_size
        if embedding.padding_idx is not None and embedding.padding_idx >= vocab_size:
            embedding.padding_idx = None
        if head_weight is None:
            head.weight = embedding.weight
        else:
            head.weight = nn.Parameter(own(head_weight), requires_grad=head.weight.requires_grad)
        head.out_features = vocab_size
        model.config.tie_word_embeddings = head_weight is None
        model.config.vocab_size = vocab_size
        for module in (model, model.base_model):
            if hasattr(module, "vocab_size"):
                module.vocab_size = vocab_size

    def keep_blocks(self, model: PreTrainedModel, positions: Sequence[int]) -> None:
        """Drop every block but those at `positions` (ascending), in place.

        The key-value cache of transformers is indexed by `layer_idx` and sized by the configuration, so both follow.
        """
        blocks = self.blocks(model)
        kept = list(positions)
        assert kept == sorted(set(kept))
        assert kept
        assert kept[0] >= 0
        assert kept[-1] < len(blocks)
        model.set_submodule(self.blocks_path, nn.ModuleList([blocks[position] for position in kept]))
        config = model.config
        entries = {key: getattr(config, key, None) for key in self.per_block_keys}
        config.num_hidden_layers = len(kept)
        for key, listed in entries.items():
            if listed is not None:
                setattr(config, key, [listed[position] for position in kept])
        self._number_caches(model)

    def drop_attention(self, model: PreTrainedModel, position: int) -> None:
        """Remove the attention of the block at `position` and its norms, in place."""
        block = self.blocks(model)[position]
        block.set_submodule(self.attention_path, AbsentAttention())
        for path in (self.attention_norm_path, self.attention_out_norm_path):
            if path is not None:
                block.set_submodule(path, nn.Identity())
        self._number_caches(model)

    def drop_mlp(self, model: PreTrainedModel, position: int) -> None:
        """Remove the MLP of the block at `position` and its norms, in place."""
        block = self.blocks(model)[position]
        block.set_submodule(self.mlp_path, AbsentMlp())
        for path in (self.mlp_norm_path, self.mlp_out_norm_path):
            if path is not None:
                block.set_submodule(path, nn.Identity())

    def _number_caches(self, model: PreTrainedModel) -> None:
        """Attention modules use the entries of the key-value cache one after the other, blocks without one none.

        Where the entries differ in kind, every block has the one of its position, and keeps it in step.
        """
        kinds_differ = len(set(getattr(model.config, "layer_types", None) or ())) > 1
        number = 0
        for position, block in enumerate(self.blocks(model)):
            attention = block.get_submodule(self.attention_path)
            if isinstance(attention, AbsentAttention):
                attention.layer_idx = position if kinds_differ else None
                number += kinds_differ
                continue
            for module in block.modules():
                if getattr(module, "layer_idx", None) is not None:
                    module.layer_idx = number  # type: ignore[assignment]  # a plain attribute of the attention
            number += 1
