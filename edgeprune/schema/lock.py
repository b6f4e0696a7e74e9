"""`Lock`: what the user fixes before a search, as `PATTERN=ACTION`.

A pattern names sites (`blocks.3.q`, `*.down`, `blocks.0-3.*`), blocks (`block.3`, `blocks.0-3`) or one of `table`,
`vocabulary` and `depth`; `*`, `?` and `[...]` as in file names. The actions, by what they apply to:

    sites        dense, rank=N, rank<=N, rank>=N, factors or pivot (how a rank is stored, where there is one), and a
                 kernel: `int8_b32_a4`, or any of a width: `int4`, `int8`
    blocks       keep, drop, channels=N, groups=N (key-value groups), and every action of sites, for all its sites
    table        a kernel or a width
    vocabulary   none, tokens=N
    depth        none

`dense` means neither a rank nor fewer channels or groups. Locks add up: each takes options away, none brings one back.
"""

import re
from collections.abc import Iterable

from edgeprune.errors import UsageError
from edgeprune.schema.base import Record
from edgeprune.schema.kernel import parse_kernel
from edgeprune.schema.model import SITE_FORMS

__all__ = ["ACTIONS", "Lock", "parse_lock", "parse_locks", "read_bound"]

WIDTHS = ("int4", "int8")
ACTIONS = (
    "dense", "keep", "drop", "none", *SITE_FORMS, *WIDTHS, "fp32", "a kernel such as int8_b32_a4", "rank=N", "rank<=N",
    "rank>=N", "channels=N", "groups=N", "tokens=N",
)  # fmt: skip

_BOUND = re.compile(r"(rank|channels|groups|tokens)\s*(<=|>=|=)\s*([0-9]+)")


class Lock(Record, frozen=True, kw_only=True):
    """One fixed choice; several locks hold together."""

    pattern: str
    """Sites, blocks, `table`, `vocabulary` or `depth`."""
    action: str
    """What the matching ones are held to."""

    def __str__(self) -> str:
        return f"{self.pattern}={self.action}"


def parse_lock(text: str) -> Lock:
    """Read `PATTERN=ACTION`.

    Raises:
        UsageError: no `=`, or no such action.
    """
    pattern, separator, action = (part.strip() for part in text.partition("="))
    if not separator or not pattern or not action:
        raise UsageError(f"--lock {text!r} is not PATTERN=ACTION; write 'blocks.0-3=int8' or '*.down=rank>=96'.")
    if action in ("dense", "keep", "drop", "none", *SITE_FORMS, *WIDTHS) or read_bound(action) is not None:
        return Lock(pattern=pattern, action=action)
    try:
        parse_kernel(action)
    except UsageError:
        raise UsageError(f"--lock {text!r}: no action {action!r}; there are {', '.join(ACTIONS)}.") from None
    return Lock(pattern=pattern, action=action)


def parse_locks(texts: Iterable[str]) -> tuple[Lock, ...]:
    """Read several, each once, in the order given.

    Raises:
        UsageError: one cannot be read.
    """
    return tuple(dict.fromkeys(parse_lock(text) for text in texts))


def read_bound(action: str) -> tuple[str, str, int] | None:
    """(`rank`, `channels`, `groups` or `tokens`; `=`, `<=` or `>=`; the number) of a bound; None for other actions."""
    match = _BOUND.fullmatch(action)
    return None if match is None else (match.group(1), match.group(2), int(match.group(3)))
