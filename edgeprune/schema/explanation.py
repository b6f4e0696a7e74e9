"""`Explanation`: for every choice of a recipe the alternatives, what each would cost, and why the chosen one was taken.

A limit that binds has a price: the nats a token that one more unit of it would save, from the linear relaxation of the
search. An alternative's `priced_nats` is its loss plus what it takes of the limited resources at those prices; without
fractions and rounding the choice would be the alternative with the least.
"""

from typing import Literal

from edgeprune.schema.base import SCHEMA_VERSION, Record, Verdict
from edgeprune.schema.lock import Lock
from edgeprune.schema.recipe import RankMethod, Recipe

__all__ = ["Alternative", "BlockExplanation", "Choice", "Departure", "Explanation", "LimitPrice", "Standing"]

Standing = Literal["chosen", "open", "infeasible", "beaten", "locked", "unscored"]
"""`open`: could have been chosen; `infeasible`: nothing with just these blocks dropped keeps the limits; `beaten`:
another option takes no more of anything and loses no more; `locked`: a lock refuses it; `unscored`: written by hand,
and never scored."""


class LimitPrice(Record, frozen=True, kw_only=True):
    """One limit, and what it costs in loss."""

    quantity: str
    """As in verdicts, such as `disk`."""
    limit: float | None
    """Bytes, seconds or a relative loss; None for a quantity that is made least instead of limited."""
    predicted: float | None
    """Of the explained recipe, upper end; None when it cannot be predicted."""
    nats_per_unit: float | None
    """Nats a token that one byte or second more would save; 0 when the limit does not bind, None when not known."""


class Alternative(Record, frozen=True, kw_only=True):
    """One option of a choice."""

    label: str
    """Such as `int4_b32_a4 rank 96`, `512 channels` or `drop 3 5`."""
    standing: Standing
    rank: int | None = None
    """None: one matrix, or not a matrix."""
    method: RankMethod | None = None
    """None without a rank."""
    kernel: str | None = None
    """None for widths and blocks."""
    kept_count: int | None = None
    """Channels, key-value groups or tokens that stay; None where all do."""
    drop_blocks: tuple[int, ...] | None = None
    drop_attention: tuple[int, ...] = ()
    drop_mlp: tuple[int, ...] = ()
    """None for choices inside the model."""
    loss_nats: float | None
    """Predicted; None when it was never scored."""
    disk_bytes: int | None
    """None for sets of blocks, whose bytes depend on every other choice; so are the next two."""
    memory_bytes: float | None
    """What it adds to the peak, upper end."""
    decode_s: float | None
    """Per token, upper end; None also when the profile does not tell."""
    priced_nats: float | None
    """Loss plus resources at the going prices; None when there are none."""
    margin_nats: float | None
    """`priced_nats` less the chosen option's: what taking this one instead would be worse by."""
    reason: str = ""
    """Why it was not taken, in a few words."""


class Choice(Record, frozen=True, kw_only=True):
    """One choice of the recipe."""

    name: str
    """A site's name, `block.3 width`, `block.3 groups`, `tables` or `depth`."""
    chosen: Alternative
    alternatives: tuple[Alternative, ...] = ()
    """The others: those that could be taken, by margin, those that give nothing for their loss after them; the rest."""
    locks: tuple[Lock, ...] = ()
    """Locks on it."""
    sentence: str


class BlockExplanation(Record, frozen=True, kw_only=True):
    """One block: whether it stays, how wide it is, and its sites."""

    index: int
    is_dropped: bool
    loss_nats: float | None
    """Sum of its choices; None when one was never scored, or the block is dropped."""
    disk_bytes: int
    memory_bytes: float
    decode_s: float | None
    width: Choice | None
    """None when its MLP is dropped."""
    groups: Choice | None = None
    """Key-value groups; None when its attention is dropped, or none of them could leave."""
    sites: tuple[Choice, ...] = ()
    sentence: str


class Departure(Record, frozen=True, kw_only=True):
    """Where a recipe written by hand differs from the search's choice; differences are written less optimal."""

    name: str
    written: str
    optimal: str
    loss_nats: float | None
    """None when one of the two was never scored, or they are in different blocks' company."""
    disk_bytes: int | None
    memory_bytes: float | None
    decode_s: float | None


class Explanation(Record, frozen=True, kw_only=True):
    """Why a recipe is what it is."""

    schema_version: int = SCHEMA_VERSION
    source: str
    """The file explained."""
    recipe: Recipe
    device_name: str
    context_tokens: int
    predicted: Verdict
    relative_loss: float | None
    """Of the explained recipe; None when one of its edits was never scored."""
    loss_increase_nats: float | None
    optimum_nats: float
    """Of the search's own choice within the same limits."""
    bound_nats: float | None
    """No recipe that drops the same blocks and keeps the limits and locks loses less; None when loss is a limit."""
    limits: tuple[LimitPrice, ...]
    summary: tuple[str, ...]
    """Sentences on the whole."""
    is_edited: bool
    """The recipe is not the search's own choice."""
    departures: tuple[Departure, ...] = ()
    depth: Choice
    tables: Choice
    blocks: tuple[BlockExplanation, ...]
    locks: tuple[Lock, ...] = ()
