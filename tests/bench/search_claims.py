"""Claims with their figures: printed as they are judged, written as JSON at the end."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = ["Claim", "Claims", "table"]


class Claim(NamedTuple):
    """One promise and the figure reached."""

    section: str
    text: str
    figure: str
    value: float | None
    """None where it could not be measured, which is never met."""
    limit: str
    is_met: bool


class Claims:
    """All claims of one run of the bench, and the rows beneath them."""

    def __init__(self) -> None:
        self.claims: list[Claim] = []
        self.rows: dict[str, list[dict[str, object]]] = {}

    def judge(self, section: str, text: str, value: float | None, figure: str, limit: str, is_met: bool) -> None:
        """Record and print one claim."""
        claim = Claim(section, text, figure, value, limit, is_met and value is not None)
        self.claims.append(claim)
        print(f"  {'met   ' if claim.is_met else 'MISSED'} {text}: {figure} (wanted {limit})", flush=True)

    def below(self, section: str, text: str, value: float | None, limit: float, *, unit: str = "") -> None:
        """A claim that a value is at most the limit."""
        figure = "not measured" if value is None else f"{value:.4g}{unit}"
        self.judge(section, text, value, figure, f"<= {limit:g}{unit}", value is not None and value <= limit)

    def above(self, section: str, text: str, value: float | None, limit: float, *, unit: str = "") -> None:
        """A claim that a value is at least the limit."""
        figure = "not measured" if value is None else f"{value:.4g}{unit}"
        self.judge(section, text, value, figure, f">= {limit:g}{unit}", value is not None and value >= limit)

    def keep(self, section: str, rows: Sequence[dict[str, object]]) -> None:
        """Keep rows for the JSON file and print them."""
        self.rows.setdefault(section, []).extend(rows)
        table(rows)

    def write(self, path: Path) -> None:
        """Everything as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"claims": [claim._asdict() for claim in self.claims], "rows": self.rows}
        path.write_text(json.dumps(content, indent=1, default=str))


def table(rows: Sequence[dict[str, object]]) -> None:
    """Print rows under the keys of the first."""
    if not rows:
        return
    keys = list(rows[0])
    cells = [[_shown(row.get(key)) for key in keys] for row in rows]
    widths = [max(len(key), *(len(line[at]) for line in cells)) for at, key in enumerate(keys)]
    print("  " + "  ".join(key.rjust(width) for key, width in zip(keys, widths, strict=True)))
    for line in cells:
        print("  " + "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)), flush=True)


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.5g}" if isinstance(value, float) else str(value)
