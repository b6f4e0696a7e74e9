"""`Recipe`: what is done to a model, readable and editable as TOML."""

from typing import Literal, NamedTuple

from edgeprune.schema.base import SCHEMA_VERSION, Record
from edgeprune.schema.kernel import FLOAT32
from edgeprune.schema.model import SiteForm
from edgeprune.schema.recovery import Recovery

__all__ = [
    "ChannelCriterion",
    "Drops",
    "GroupCriterion",
    "KeepChannels",
    "KeepGroups",
    "KeepTokens",
    "RankMethod",
    "Recipe",
    "Repair",
    "RoundingMethod",
    "Run",
    "SiteEdit",
]

RankMethod = Literal["lowrank", "laser", "asvd", "svdllm"]
"""`lowrank`: output-covariance truncation; `laser`: plain SVD truncation. Baselines that no search chooses: `asvd`, SVD
of inputs scaled by their magnitude; `svdllm`, SVD of Cholesky-whitened inputs."""

ChannelCriterion = Literal["output", "contextual", "flap", "wanda", "obs"]
"""In which order FFN channels leave. `output`: by the error of the block's output, a sixteenth at a time; `obs`: the
same, one by one; `contextual`: by mean activation (Mini-GPTs); `flap`: by fluctuation; `wanda`: by weight and norm."""


GroupCriterion = Literal["obs", "flap", "wanda"]
"""In which order key-value groups leave. `obs`: one by one by the error of the attention's output, compensated; `flap`
and `wanda`: by the mean of what the criteria of channels say of the group's columns of o."""

RoundingMethod = Literal["nearest", "gptq"]
"""How weights become integers. `nearest`: each to the nearest; `gptq`: column by column, later columns making up for
the errors of earlier ones as the calibration text weighs them."""


class Run(NamedTuple):
    """A stretch of dropped parts, attention and MLP, with nothing kept between them."""

    block: int
    """Source index of the block it begins in."""
    starts_at_mlp: bool
    """Whether that block keeps its attention."""
    next_block: int
    """Source index of the block that the first part kept after it belongs to, in a model long enough to have one."""
    ends_at_mlp: bool
    """Whether that part is the MLP, the block's attention being dropped."""


class Drops(NamedTuple):
    """What of a model's depth is removed; source indices of blocks, ascending."""

    blocks: tuple[int, ...] = ()
    """Whole blocks."""
    attention: tuple[int, ...] = ()
    """Blocks that lose their attention alone."""
    mlp: tuple[int, ...] = ()
    """Blocks that lose their MLP alone."""
    repairs: tuple[tuple[int, int], ...] = ()
    """Runs that are repaired: the block each begins in, and the rank of its operator."""

    @property
    def runs(self) -> tuple[Run, ...]:
        """The stretches of dropped parts, in order; parts of a block follow each other, and so do blocks."""
        parts = {2 * block for block in (*self.blocks, *self.attention)}
        parts |= {2 * block + 1 for block in (*self.blocks, *self.mlp)}
        found = []
        for start in sorted(part for part in parts if part - 1 not in parts):
            end = start
            while end in parts:
                end += 1
            found.append(Run(start // 2, bool(start % 2), end // 2, bool(end % 2)))
        return tuple(found)

    def repaired(self, rank: int | None) -> "Drops":
        """The same parts with every run repaired at that rank, or none."""
        return self._replace(repairs=() if rank is None else tuple((run.block, rank) for run in self.runs))

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
        parts += [f"{block}.mlp" for block in self.mlp]
        ranks = sorted({rank for _, rank in self.repairs})
        repair = f", repaired at rank {' and '.join(map(str, ranks))}" if ranks else ""
        return (" ".join(parts) or "none") + repair


class Repair(Record, frozen=True, kw_only=True):
    """An affine operator of low rank in place of one run of dropped blocks: x <- x + left (right x) + c.

    Fitted to what the run did to the residual stream on the calibration text; a run of dropped halves is one too.
    """

    block: int
    """Source index of the block the run begins in."""
    rank: int


class KeepTokens(Record, frozen=True, kw_only=True):
    """Vocabulary rows that stay; the ids follow from the calibration token counts, in order of use."""

    kept_count: int


class KeepChannels(Record, frozen=True, kw_only=True):
    """FFN channels that stay in one block; the channels follow from their importance in the calibration data."""

    block: int
    kept_count: int
    criterion: ChannelCriterion = "output"
    compensate: bool = True
    """Whether those that stay take over from those that leave: by least squares, under `flap` as published by a bias
    of down that stands for their mean. False slices and does no more."""

    @property
    def adds_bias(self) -> bool:
        """Whether down has a bias afterwards, had it one before or not."""
        return self.criterion == "flap" and self.compensate


class KeepGroups(Record, frozen=True, kw_only=True):
    """Key-value groups that stay in one block, each with the query heads that read it.

    Which ones follows from what they add to the block's output in the calibration data. Where every query head has keys
    and values of its own, each head is a group.
    """

    block: int
    kept_count: int
    criterion: GroupCriterion = "obs"
    compensate: bool = True
    """Whether those that stay take over from those that leave: by least squares, under `flap` as published by a bias
    of o that stands for their mean. False slices and does no more."""

    @property
    def adds_bias(self) -> bool:
        """Whether o has a bias afterwards, had it one before or not."""
        return self.criterion == "flap" and self.compensate


class SiteEdit(Record, frozen=True, kw_only=True):
    """Rank and kernel of one site."""

    name: str
    kernel: str = FLOAT32
    rank: int | None = None
    """None keeps the matrix dense."""
    method: RankMethod = "lowrank"
    form: SiteForm = "factors"
    """How the rank is stored."""


class Recipe(Record, frozen=True, kw_only=True):
    """Edits in the order they are applied: blocks, tokens, groups, channels, ranks, refit, recovery, bits, cache."""

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
    keep_groups: tuple[KeepGroups, ...] = ()
    """Blocks not listed keep all their key-value groups."""
    repairs: tuple[Repair, ...] = ()
    """Dropped runs not listed have nothing in their place."""
    refit: bool = False
    """Output projections are solved for once more after the ranks, front to back, against the dense model."""
    recovery: Recovery | None = None
    """Training between the ranks and the bits; None trains nothing."""
    rounding: RoundingMethod = "nearest"
    """Of sites and head where an integer kernel stores them."""
    kv_bits: Literal[8, 32] = 32
    """Bits of a cached key or value."""

    @property
    def drops(self) -> Drops:
        """The depth edits together, in ascending order."""
        return Drops(
            blocks=tuple(sorted(self.drop_blocks)),
            attention=tuple(sorted(self.drop_attention)),
            mlp=tuple(sorted(self.drop_mlp)),
            repairs=tuple(sorted((repair.block, repair.rank) for repair in self.repairs)),
        )
