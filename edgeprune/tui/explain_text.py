"""The explanation of a recipe as short paragraphs: the whole, and the site or block under the cursor."""

from edgeprune.schema.explanation import Choice, Explanation
from edgeprune.schema.lock import Lock
from edgeprune.tui.sourced import rounded

__all__ = ["cell_text", "overview_text"]

SHOWN = 6
"""Alternatives listed of one choice."""


def overview_text(explanation: Explanation | None, locks: tuple[Lock, ...], *, is_asked: bool = False) -> str:
    """The whole recipe; without an explanation, how to ask for one, or that it was asked for."""
    held = f"Locked: {', '.join(map(str, locks))}." if locks else ""
    if explanation is None:
        words = "The answer is on its way." if is_asked else "Press w to ask why this recipe was chosen."
        return "\n".join(part for part in (words, held) if part)
    parts = [*explanation.summary, explanation.depth.sentence, explanation.tables.sentence]
    return "\n".join([*(part for part in parts if part), *([held] if held else [])])


def cell_text(explanation: Explanation, site: str, block: int) -> str:
    """The block, then the site with what else could have been taken and what that would cost."""
    found = next((entry for entry in explanation.blocks if entry.index == block), None)
    if found is None:
        return ""
    choice = next((entry for entry in found.sites if entry.name == site), None)
    if choice is None:
        return f"block {block}: {found.sentence}"
    return "\n".join([f"block {block}: {found.sentence}", *_choice_lines(choice)])


def _choice_lines(choice: Choice) -> list[str]:
    lines = [f"{choice.name}: {choice.sentence}"]
    for entry in choice.alternatives[:SHOWN]:
        margin = entry.margin_nats
        worse = "" if margin is None or margin < 0 else f", worse by {margin:.2g} nats"  # its reason says how better
        why = f": {entry.reason}" if entry.reason else ""
        lines.append(f"  {entry.label}, {rounded(entry.disk_bytes, 'bytes')}{worse}{why}")
    return lines
