"""The report's Markdown as styled lines for a terminal of any width: headings, paragraphs, lists and tables.

Only what `report.md` is made of is read. A table that is wider than the screen is written a row after the other, with
the names of its columns beside the values, so that nothing is cut off.
"""

import re

__all__ = ["report_lines"]

Line = tuple[str, str]
"""Text, and the style it is drawn in."""

_ESCAPED = re.compile(r"\\([\\`*_<>\[\]|#])")
_RULE = re.compile(r"\|(\s*:?-{3,}:?\s*\|)+\s*")
_CELL = re.compile(r"(?<!\\)\|")
_GAP = 2


def report_lines(markdown: str, width: int) -> list[Line]:
    """Every line with its style; paragraphs are left whole, to be wrapped by whoever draws them.

    Args:
        markdown: the document.
        width: cells of the screen.
    """
    found: list[Line] = []
    table: list[list[str]] = []
    for line in [*markdown.splitlines(), ""]:
        if line.startswith("|"):
            if _RULE.fullmatch(line) is None:
                table.append([_plain(cell) for cell in _CELL.split(line.strip())[1:-1]])
            continue
        if table:
            found += _table(table, width)
            table = []
        if line.startswith("# "):
            found.append((_plain(line[2:]), "bold $accent"))
        elif line.startswith("#"):
            found.append((_plain(line.lstrip("# ")), "bold $primary"))
        else:
            found.append((_plain(line), ""))
    return found


def _plain(text: str) -> str:
    return _ESCAPED.sub(r"\1", text.replace("**", "").replace("`", "")).strip()


def _table(rows: list[list[str]], width: int) -> list[Line]:
    head, *body = rows
    widths = [max(len(row[place]) if place < len(row) else 0 for row in rows) for place in range(len(head))]
    if sum(widths) + _GAP * (len(widths) - 1) > width:
        return _listed(head, body)
    lines = [(_aligned(row, widths), "") for row in body]
    return [(_aligned(head, widths), "$text-muted"), *lines]


def _aligned(row: list[str], widths: list[int]) -> str:
    """The first column left, the others right."""
    cells = [f"{cell:<{size}}" if place == 0 else f"{cell:>{size}}"
             for place, (cell, size) in enumerate(zip(row, widths, strict=False))]  # fmt: skip
    return (" " * _GAP).join(cells).rstrip()


def _listed(head: list[str], body: list[list[str]]) -> list[Line]:
    found: list[Line] = []
    for row in body:
        found.append((f"{head[0]} {row[0]}".strip(), "bold"))
        pairs = [f"{name} {value}" for name, value in zip(head[1:], row[1:], strict=False) if value]
        found.append((f"  {', '.join(pairs)}", ""))
    return found
