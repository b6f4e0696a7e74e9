"""The base of all records and the words they share."""

from typing import Literal

import msgspec

__all__ = ["SCHEMA_VERSION", "Basis", "Record", "Verdict"]

SCHEMA_VERSION = 1
"""Version written into every file; a reader refuses a newer one by name."""

Basis = Literal["measured", "datasheet", "estimated", "corrected", "config"]
"""Where a number comes from: a measurement, a data sheet, a model of ours (as it is, or corrected by what was measured
on the device), or the model's own files."""

Verdict = Literal["met", "not_met", "unmeasured"]
"""A limit without a measurement is `unmeasured`, never `met`."""


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A frozen record; subclasses repeat `frozen=True, kw_only=True` (type checkers and msgspec ask for it)."""
