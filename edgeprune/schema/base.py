"""The base of all records and the words they share."""

from collections.abc import Iterable
from typing import Literal

import msgspec

__all__ = ["SCHEMA_VERSION", "Basis", "Record", "Verdict", "worst_verdict"]

SCHEMA_VERSION = 1
"""Version written into every file; a reader refuses a newer one by name."""

Basis = Literal["measured", "datasheet", "estimated", "corrected", "config"]
"""Where a number comes from: a measurement, a data sheet, a model of ours (as it is, or corrected by what was measured
on the device), or the model's own files."""

Verdict = Literal["met", "not_met", "unmeasured"]
"""A limit without a measurement is `unmeasured`, never `met`."""


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A frozen record; subclasses repeat `frozen=True, kw_only=True` (type checkers and msgspec ask for it)."""


def worst_verdict(verdicts: Iterable[Verdict]) -> Verdict:
    """`not_met` if any is, otherwise `unmeasured` if any is, otherwise `met`."""
    found = set(verdicts)
    return "not_met" if "not_met" in found else "unmeasured" if "unmeasured" in found else "met"
