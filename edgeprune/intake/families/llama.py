"""Llama-like decoders: RMS norms, rotary positions, grouped key and value heads, a gated MLP.

Covers `llama` (SmolLM and SmolLM2 carry this type too), `mistral`, `qwen2` (biased q, k, v) and `qwen3` (norms on
queries and keys); `LlamaLike` is the base of the families that differ in what their subclasses state. Defaults of
absent fields are those of transformers 5.23.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from edgeprune.errors import ModelError, UnsupportedArchitectureError
from edgeprune.intake.config import (
    BLOCK_LIMIT,
    POSITION_LIMIT,
    VOCABULARY_LIMIT,
    WIDTH_LIMIT,
    read_flag,
    read_number,
    read_size,
    read_text,
)
from edgeprune.intake.families.base import Engine, FamilyShapes
from edgeprune.intake.families.rotary import check_rotary
from edgeprune.intake.families.window import read_window
from edgeprune.schema.model import BlockSpec, SiteRole, SiteSpec, site_name

__all__ = ["LLAMA", "Defaults", "LlamaFamily", "LlamaLike"]


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What transformers assumes where config.json is silent."""

    num_kv_heads: int | None
    """None: as many as query heads."""
    max_positions: int
    head_dim: int | None = None
    """None: hidden size / heads."""
    is_tied: bool = False
    norm_epsilon: float = 1e-6
    activation: str = "silu"


_MODULES: dict[SiteRole, str] = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}


class LlamaLike:
    """What the families of this shape share; subclasses state the rest."""

    name: str
    model_types: tuple[str, ...]
    engine: Engine = "wired"
    engine_reason: str = ""
    defaults: Mapping[str, Defaults]
    """By `model_type`."""
    activation_key: str = "hidden_act"
    activations: tuple[str, ...] = ("silu", "swish")
    packed: Mapping[str, tuple[SiteRole, ...]] = MappingProxyType({})
    """Stored matrix, by its name in the block -> the sites whose rows it holds, one after the other."""
    block_norms: tuple[str, ...] = ("input_layernorm", "post_attention_layernorm")
    """Norms of the model's width in a block, in the order of the forward pass; the second half are the MLP's."""
    head_norm_types: frozenset[str] = frozenset()
    """Types with a norm on each head's queries and keys."""

    def shapes(self, config: dict[str, Any]) -> FamilyShapes:
        """Shapes a Llama-like configuration describes.

        Raises:
            ModelError: a field is missing or malformed.
            UnsupportedArchitectureError: mixed attention windows, unknown rotary scaling or activation.
        """
        kind = config["model_type"]
        defaults = self.defaults[kind]
        hidden = read_size(config, "hidden_size", limit=WIDTH_LIMIT)
        block_count = read_size(config, "num_hidden_layers", limit=BLOCK_LIMIT)
        heads, kv_heads, head_dim = self._heads(config, defaults, hidden)
        activation = read_text(config, self.activation_key, default=defaults.activation)
        if activation not in self.activations:
            raise UnsupportedArchitectureError(
                f"The activation {activation!r} in config.json is not supported for {kind}; it must be "
                f"{self.activations[0]}."
            )
        rotary_dim = self.rotary_dim(config, head_dim)
        inner = read_size(config, "intermediate_size", limit=WIDTH_LIMIT)
        biased = self.biased_roles(config)
        norms = len(self.block_norms) * hidden + (2 * head_dim if kind in self.head_norm_types else 0)
        widths = _widths(hidden, heads * head_dim, kv_heads * head_dim, inner)
        blocks = tuple(
            BlockSpec(
                index=index,
                num_heads=heads,
                num_kv_heads=kv_heads,
                head_dim=head_dim,
                intermediate_size=inner,
                sites=tuple(
                    SiteSpec(
                        name=site_name(index, role),
                        role=role,
                        in_features=width_in,
                        out_features=width_out,
                        has_bias=role in biased,
                    )
                    for role, (width_out, width_in) in widths.items()
                ),
                norm_parameter_count=norms,
                mlp_norm_parameter_count=2 * hidden if len(self.block_norms) == 4 else None,
            )
            for index in range(block_count)
        )
        return FamilyShapes(
            hidden_size=hidden,
            vocab_size=read_size(config, "vocab_size", limit=VOCABULARY_LIMIT),
            max_positions=self.max_positions(config, defaults),
            is_tied=read_flag(config, "tie_word_embeddings", default=defaults.is_tied),
            position_kind="rotary",
            rotary_dim=rotary_dim,
            norm_kind="rms",
            norm_epsilon=read_number(config, "rms_norm_eps", default=defaults.norm_epsilon),
            activation=activation,
            is_gated=True,
            sliding_window=self.window(config, block_count),
            blocks=blocks,
            final_norm_parameter_count=hidden,
        )

    def tensors(self, shapes: FamilyShapes) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every stored tensor, without `model.`."""
        hidden = shapes.hidden_size
        expected: dict[str, tuple[int, ...]] = {"embed_tokens.weight": (shapes.vocab_size, hidden)}
        for block in shapes.blocks:
            prefix = f"layers.{block.index}."
            for norm in self.block_norms:
                expected[f"{prefix}{norm}.weight"] = (hidden,)
            if block.norm_parameter_count > len(self.block_norms) * hidden:
                expected[f"{prefix}self_attn.q_norm.weight"] = (block.head_dim,)
                expected[f"{prefix}self_attn.k_norm.weight"] = (block.head_dim,)
            sites = {site.role: site for site in block.sites}
            for module, roles in self._matrices().items():
                out_features = sum(sites[role].out_features for role in roles)
                expected[f"{prefix}{module}.weight"] = (out_features, sites[roles[0]].in_features)
                if sites[roles[0]].has_bias:
                    expected[f"{prefix}{module}.bias"] = (out_features,)
        expected["norm.weight"] = (hidden,)
        if not shapes.is_tied:
            expected["lm_head.weight"] = (shapes.vocab_size, hidden)
        return expected

    def strip(self, name: str) -> str | None:
        """A stored name without `model.`; None for the rotary frequencies old checkpoints carry."""
        if name.endswith("rotary_emb.inv_freq"):
            return None
        return name.removeprefix("model.")

    def biased_roles(self, config: dict[str, Any]) -> frozenset[SiteRole]:
        """Sites with a bias; each type reads only the flags its own code reads."""
        return frozenset("qkvo") if read_flag(config, "attention_bias", default=False) else frozenset()  # type: ignore[arg-type]

    def rotary_dim(self, config: dict[str, Any], head_dim: int) -> int:
        """Rotated dimensions of a head, once the variant is known to be one that is read."""
        check_rotary(config, head_dim=head_dim)
        return head_dim

    def max_positions(self, config: dict[str, Any], defaults: Defaults) -> int:
        """Positions the model was made for."""
        return read_size(config, "max_position_embeddings", limit=POSITION_LIMIT, default=defaults.max_positions)

    def window(self, config: dict[str, Any], block_count: int) -> int | None:
        """Tokens that blocks with a window attend to; None where no block has one."""
        return read_window(config, config["model_type"], block_count=block_count)

    def _heads(self, config: dict[str, Any], defaults: Defaults, hidden: int) -> tuple[int, int, int]:
        """Query heads, key-value heads and the size of one."""
        heads = read_size(config, "num_attention_heads", limit=WIDTH_LIMIT)
        # An explicit null means "as many as query heads" in every type, an absent key means the type's default.
        absent = heads if "num_key_value_heads" in config else defaults.num_kv_heads or heads
        kv_heads = read_size(config, "num_key_value_heads", limit=WIDTH_LIMIT, default=absent)
        has_own_dim = config.get("head_dim") is not None or defaults.head_dim is not None
        if hidden % heads != 0 and (config["model_type"] == "llama" or not has_own_dim):
            raise ModelError(
                f"config.json: hidden_size {hidden} is not a multiple of num_attention_heads {heads}; "
                "the file is malformed."
            )
        if heads % kv_heads != 0:
            raise ModelError(
                f"config.json: num_attention_heads {heads} is not a multiple of num_key_value_heads {kv_heads}; "
                "the file is malformed."
            )
        return (
            heads,
            kv_heads,
            read_size(config, "head_dim", limit=WIDTH_LIMIT, default=defaults.head_dim or hidden // heads),
        )

    def _matrices(self) -> dict[str, tuple[SiteRole, ...]]:
        """Stored matrices in the order of the forward pass, by their name in the block, and the sites they hold."""
        packed = {role: (module, roles) for module, roles in self.packed.items() for role in roles}
        return dict(packed.get(role, (module, (role,))) for role, module in _MODULES.items())


class LlamaFamily(LlamaLike):
    """See the module."""

    name = "llama"
    engine: Engine = "mobius"
    defaults = MappingProxyType(
        {
            "llama": Defaults(num_kv_heads=None, max_positions=2048),
            "mistral": Defaults(num_kv_heads=8, max_positions=131_072),
            "qwen2": Defaults(num_kv_heads=32, max_positions=32_768),
            "qwen3": Defaults(num_kv_heads=32, max_positions=32_768, head_dim=128),
        }
    )
    model_types = tuple(defaults)
    head_norm_types = frozenset({"qwen3"})

    def biased_roles(self, config: dict[str, Any]) -> frozenset[SiteRole]:
        """Of q, k and v in qwen2; elsewhere as the flags say, that of the MLP in llama alone."""
        kind = config["model_type"]
        if kind == "qwen2":
            return frozenset({"q", "k", "v"})
        roles: set[SiteRole] = set()
        if kind in ("llama", "qwen3") and read_flag(config, "attention_bias", default=False):
            roles |= {"q", "k", "v", "o"}
        if kind == "llama" and read_flag(config, "mlp_bias", default=False):
            roles |= {"gate", "up", "down"}
        return frozenset(roles)


def _widths(hidden: int, query: int, key: int, inner: int) -> dict[SiteRole, tuple[int, int]]:
    """Role -> (out, in)."""
    return {
        "q": (query, hidden),
        "k": (key, hidden),
        "v": (key, hidden),
        "o": (hidden, query),
        "gate": (inner, hidden),
        "up": (inner, hidden),
        "down": (hidden, inner),
    }


LLAMA = LlamaFamily()
