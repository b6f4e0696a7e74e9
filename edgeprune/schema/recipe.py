"""`Recipe`: what is done to a model, readable and editable as TOML."""

from typing import Literal, NamedTuple

from edgeprune.schema.base import SCHEMA_VERSION, Record
from edgeprune.schema.kernel import FLOAT32

__all__ = ["Drops", "KeepChannels", "KeepTokens", "RankMethod", "Recipe", "SiteEdit"]

RankMethod = Literal["lowrank", "laser"]
"""`lowrank`: output-covariance truncation; `laser`: plain SVD truncation."""


class Drops(NamedTuple):
    """What of a model's depth is removed; source indices of blocks, ascending."""

    blocks: tuple[int, ...] = ()
    """Whole blocks."""
    attention: tuple[int, ...] = ()
    """Blocks that lose their attention alone."""
    mlp: tuple[int, ...] = ()
    """Blocks that lose their MLP alone."""

    @property
    def block_count(self) -> float:
        """How many blocks go, a half counting as one half."""
        return len(self.blocks) + (len(self.attention) + len(self.mlp)) / 2

    def lacks_attention(self, block: int) -> bool:
        """Whether the block's attention goes, alone or with the block."""
        return block in self.blocks or block in self.attention

    def lacks_mlp(self, block: int) -> bool:
        """Whether the block's MLP goes, alone or with the block."""
        return block in self.blocks or block in self.mlp

    def __str__(self) -> str:
        parts = [str(block) for block in self.blocks]
        parts += [f"{block}.attention" for block in self.attention]
        return " ".join([*parts, *(f"{block}.mlp" for block in self.mlp)]) or "none"


class KeepTokens(Record, frozen=True, kw_only=True):
    """Vocabulary rows that stay; the ids follow from the calibration token counts, in order of use."""

    kept_count: int


class KeepChannels(Record, frozen=True, kw_only=True):
    """FFN channels that stay in one block; the channels follow from their importance in the calibration data."""

    block: int
    kept_count: int


class SiteEdit(Record, frozen=True, kw_only=True):
    """Rank and kernel of one site."""

    name: str
    kernel: str = FLOAT32
    rank: int | None = None
    """None keeps the matrix dense."""
    method: RankMethod = "lowrank"


class Recipe(Record, frozen=True, kw_only=True):
    """Edits in the order they are applied: blocks, tokens, channels, ranks, bits."""

    schema_version: int = SCHEMA_VERSION
    model_hash: str
    technique: str = "auto"
    context_tokens: int
    seed: int = 0
    drop_blocks: tuple[int, ...] = ()
    """Source indices, ascending."""
    drop_attention: tuple[int, ...] = ()
    """Blocks that lose their attention, with its norm and its key-value cache, and keep their MLP."""
    drop_mlp: tuple[int, ...] = ()
    """Blocks that lose their MLP, with its norm, and keep their attention."""
    keep_tokens: KeepTokens | None = None
    keep_channels: tuple[KeepChannels, ...] = ()
    table_kernel: str = FLOAT32
    """How embedding and head are stored."""
    sites: tuple[SiteEdit, ...] = ()
    """Sites not listed stay dense in float32."""

    @property
    def drops(self) -> Drops:
        """The depth edits together, in ascending order."""
        return Drops(*(tuple(sorted(part)) for part in (self.drop_blocks, self.drop_attention, self.drop_mlp)))
