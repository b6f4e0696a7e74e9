"""The loss on general text of one choice of a search, from a second quality model that was scored there."""

from typing import TYPE_CHECKING

from edgeprune.search.problem import QualityModel

if TYPE_CHECKING:
    from edgeprune.search.space import Column

__all__ = ["general_loss"]


def general_loss(model: QualityModel, column: "Column") -> float | None:
    """Nats per token that taking a column adds on general text; None when one of its edits was not scored there."""
    parts: list[float | None] = []
    if column.drops is not None:
        parts.append(model.depth_loss(column.drops))
    if column.tables is not None:
        kept, kernel = column.tables
        parts.append(0.0 if kept is None else model.vocabulary_loss(kept))
        parts.append(model.kernel_loss("table", kernel))
    if column.channels is not None and column.channels[1] is not None:
        parts.append(model.channel_loss(column.channels[0], column.channels[1]))
    if column.groups is not None and column.groups[1] is not None:
        parts.append(model.group_loss(column.groups[0], column.groups[1]))
    if column.site is not None:
        site = column.site
        parts.append(model.kernel_loss(site.name, site.kernel, form=None if site.rank is None else site.form))
        parts.append(0.0 if site.rank is None else model.rank_loss(site.name, site.rank, site.method))
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None
