"""What a plain console cannot draw, drawn with what it has; for textual 8."""

from typing import ClassVar

from textual.scrollbar import ScrollBarRender

__all__ = ["PlainScrollBar"]


class PlainScrollBar(ScrollBarRender):
    """Ends on whole cells: eighths of a block are not in a console's font."""

    VERTICAL_BARS: ClassVar[list[str]] = [" "] * 8
    HORIZONTAL_BARS: ClassVar[list[str]] = [" "] * 8
