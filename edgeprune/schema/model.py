"""`ModelSpec`: the shapes of a model, dense or edited, without its weights.

Sites are named `blocks.<source index>.<role>` and keep that name when earlier blocks are dropped.
"""

from typing import Literal

from edgeprune.schema.base import SCHEMA_VERSION, Record
from edgeprune.schema.kernel import FLOAT32

__all__ = [
    "INPUT_ROLES",
    "MLP_ROLES",
    "NEURON_ROLES",
    "SITE_FORMS",
    "BlockSpec",
    "ModelSpec",
    "SiteForm",
    "SiteRole",
    "SiteSpec",
    "site_name",
]

SiteRole = Literal["q", "k", "v", "qkv", "o", "gate", "up", "down"]
MLP_ROLES: frozenset[SiteRole] = frozenset({"gate", "up", "down"})
"""Roles of the MLP's sites; all others belong to the attention."""
NEURON_ROLES: frozenset[SiteRole] = frozenset({"gate", "up"})
"""Roles whose outputs are neurons of the MLP, which may stand in any order."""
INPUT_ROLES: tuple[tuple[SiteRole, ...], ...] = (("q", "k", "v"), ("gate", "up"))
"""Roles whose sites read the same input, in the order of a block's sites."""

SiteForm = Literal["factors", "pivot", "shared", "head_rows", "head_columns"]
"""How a matrix of low rank is stored: as `factors` right [rank, in] and left [out, rank], or in the `pivot` form, as
`rank` of its own rows [rank, in] and the coefficients [out - rank, rank] that make the other rows from them. Both hold
the same matrix; the pivot form has rank * rank numbers less. A `shared` site has a left factor alone; its right factor
is that of the nearest site before it that reads the same input and holds one. `head_rows` is v with as many values a
head as its rank has for each, one matrix [rank, in], and `head_columns` the o that reads them, [out, rank]; a block has
both or neither."""
SITE_FORMS: tuple[SiteForm, ...] = ("factors", "pivot")
"""Forms that a site may take whatever the others do."""


def site_name(block_index: int, role: SiteRole) -> str:
    """Name of one site."""
    return f"blocks.{block_index}.{role}"


class SiteSpec(Record, frozen=True, kw_only=True):
    """One weight matrix that can be factored and quantised; y = W x + b with W [out, in]."""

    name: str
    role: SiteRole
    in_features: int
    out_features: int
    has_bias: bool = False
    rank: int | None = None
    """None: one dense matrix. Otherwise right [rank, in] and left [out, rank], y = left (right x) + b."""
    form: SiteForm = "factors"
    """How a rank is stored; without a rank it says nothing."""
    kernel: str = FLOAT32
    """How the matrix, or both factors, are stored; see `edgeprune.schema.kernel`."""

    @property
    def has_row_order(self) -> bool:
        """Whether outputs must be put in order: the pivot form's, but for neurons, which take the order of its rows."""
        return self.rank is not None and self.form == "pivot" and self.role not in NEURON_ROLES


class BlockSpec(Record, frozen=True, kw_only=True):
    """One transformer block (attention + MLP)."""

    index: int
    """Position in the dense model; kept when other blocks are dropped."""
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    sites: tuple[SiteSpec, ...]
    norm_parameter_count: int
    """Gains and biases of all norms in the block."""
    mlp_norm_parameter_count: int | None = None
    """The share of them that leaves with the MLP; None: one norm of the model's width."""
    repair_rank: int | None = None
    """Rank of the affine operator on the block's input, in the place of dropped parts before it; None: there is none.

    x <- x + left (right x) + c with right [rank, hidden], left [hidden, rank] and c [hidden]."""
    kv_bits: int = 32
    """Bits of a cached key or value: 32, or 8 with one float32 scale for each channel of a head."""

    @property
    def has_attention(self) -> bool:
        """False where a recipe removed the attention and left the MLP; the block then has no key-value cache."""
        return self.num_heads > 0

    @property
    def has_mlp(self) -> bool:
        """False where a recipe removed the MLP and left the attention."""
        return self.intermediate_size > 0


class ModelSpec(Record, frozen=True, kw_only=True):
    """The shapes of one decoder-only language model."""

    schema_version: int = SCHEMA_VERSION
    name: str
    """Folder name or hub id."""
    model_hash: str
    """sha256 over config and weight headers and bytes; identifies the dense model, also in an edited spec."""
    model_type: str
    """`model_type` of config.json."""
    family: str
    """Our family file that reads it, such as `llama` or `gpt2`."""
    architecture: str
    """First of `architectures` in config.json."""
    hidden_size: int
    vocab_size: int
    """Rows of the embedding table as stored (may exceed the tokenizer's tokens)."""
    max_positions: int
    position_offset: int = 0
    """Rows a table of learned positions has before that of position 0, which no text reads (OPT: 2)."""
    is_tied: bool
    """One table serves as embedding and head."""
    position_kind: Literal["rotary", "learned"]
    rotary_dim: int | None
    """Rotated dimensions of a head; None for learned positions."""
    rotary_table_count: int = 1
    """Tables of cosines and sines a graph holds: 2 where two kinds of blocks rotate at rates of their own (Gemma 3)."""
    norm_kind: Literal["rms", "layer"]
    norm_epsilon: float
    activation: str
    is_gated: bool
    """The MLP multiplies an activated gate with up."""
    sliding_window: int | None = None
    blocks: tuple[BlockSpec, ...]
    final_norm_parameter_count: int
    table_kernel: str = FLOAT32
    """How embedding and head are stored."""
    source_dtype: str
    """`bfloat16`, `float16` or `float32`: dtype of most weights in the source."""
    source_bytes: int
    """Bytes of the source's weight files: what "dense" means on disk."""
    parameter_count: int
    """Stored parameters, tied tables once."""
    tokenizer_bytes: int
    """Bytes of the tokenizer files beside the weights."""
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()
    pad_token_id: int | None = None
    license: str | None = None
    """Licence named by the model's own files; None when they name none."""

    @property
    def position_parameter_count(self) -> int:
        """Stored parameters of the table of learned positions; 0 for rotary ones, which are computed."""
        rows = self.max_positions + self.position_offset
        return rows * self.hidden_size if self.position_kind == "learned" else 0

    @property
    def attention_blocks(self) -> tuple[BlockSpec, ...]:
        """Blocks that attend: the i-th of them owns the i-th key-value pair of graph and cache."""
        return tuple(block for block in self.blocks if block.has_attention)

    @property
    def kv_bits(self) -> int:
        """Bits of a cached key or value; the same in every block that attends."""
        return self.attention_blocks[0].kv_bits

    def site(self, name: str) -> SiteSpec:
        """The site of that name.

        Raises:
            KeyError: no such site.
        """
        for block in self.blocks:
            for site in block.sites:
                if site.name == name:
                    return site
        raise KeyError(name)
