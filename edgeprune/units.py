"""Bytes, seconds and rates: the one place where they are parsed and printed.

`MB` and `GB` are powers of ten, `MiB` and `GiB` powers of two (IEC 80000-13). Inside the program every size is an
int of bytes and every time a float of seconds. A bare number is refused, because nobody can tell which was meant.
"""

import math
import re

from edgeprune.errors import UsageError

__all__ = [
    "format_bytes",
    "format_fraction",
    "format_joules",
    "format_rate",
    "format_seconds",
    "parse_bytes",
    "parse_fraction",
    "parse_percent",
    "parse_seconds",
]

_BYTES = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}
_SECONDS = {"NS": 1e-9, "US": 1e-6, "MS": 1e-3, "S": 1.0, "MIN": 60.0, "H": 3600.0}
_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*([A-Za-z]*)\s*")


def _parse(text: str, units: dict[str, float] | dict[str, int], what: str, example: str) -> float:
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise UsageError(f"{what} {text!r} is not a number with a unit; write it like {example}.")
    number, unit = match.groups()
    if not unit:
        raise UsageError(f"{what} {text!r} has no unit; write it like {example}.")
    factor = units.get(unit.upper())
    if factor is None:
        known = ", ".join(_spelled(name) for name in units)
        raise UsageError(f"{what} {text!r} has the unknown unit {unit!r}; use one of {known}.")
    value = float(number) * factor
    if not math.isfinite(value):
        raise UsageError(f"{what} {text!r} is too large to be meant.")
    return value


def _spelled(unit: str) -> str:
    if unit in _SECONDS:
        return unit.lower()
    return unit.replace("IB", "iB") if unit.endswith("IB") else unit


def parse_bytes(text: str, *, what: str = "size") -> int:
    """Parse a size such as `1.5GB` or `900 MiB` into bytes.

    Raises:
        UsageError: no number, no unit, or an unknown unit.
    """
    return round(_parse(text, _BYTES, what, "1.5GB or 900MiB"))


def parse_seconds(text: str, *, what: str = "time") -> float:
    """Parse a duration such as `12ms` or `0.4 s` into seconds.

    Raises:
        UsageError: no number, no unit, or an unknown unit.
    """
    return _parse(text, _SECONDS, what, "12ms or 0.4s")


def parse_percent(text: str) -> float | None:
    """Return 0.6 for `60%`, or None when the text is not a percentage.

    Raises:
        UsageError: a percentage that is not positive.
    """
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*%\s*", text)
    if match is None:
        return None
    value = float(match.group(1)) / 100.0
    if value <= 0.0:
        raise UsageError(f"{text!r} leaves nothing; give a percentage above zero.")
    return value


def parse_fraction(text: str, *, what: str = "fraction") -> float:
    """Parse `0.02` or `2%` into 0.02.

    Raises:
        UsageError: not a number, or negative.
    """
    percent = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*%\s*", text)
    try:
        value = float(percent.group(1)) / 100.0 if percent else float(text)
    except ValueError:
        raise UsageError(f"{what} {text!r} is not a number; write it like 0.02 or 2%.") from None
    if not math.isfinite(value) or value < 0.0:
        raise UsageError(f"{what} {text!r} must be zero or more.")
    return value


def format_bytes(count: float | None) -> str:
    """Print bytes with three significant digits in powers of ten; `n/a` for None."""
    if count is None:
        return "n/a"
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 999.5:
            return f"{size:.0f} {unit}" if unit == "B" else f"{_three_digits(size)} {unit}"
        size /= 1000.0
    return f"{_three_digits(size)} TB"


def format_rate(bytes_per_s: float | None) -> str:
    """Print a rate of bytes per second; `n/a` for None."""
    return "n/a" if bytes_per_s is None else f"{format_bytes(bytes_per_s)}/s"


def format_seconds(seconds: float | None) -> str:
    """Print a duration with three significant digits; `n/a` for None."""
    if seconds is None:
        return "n/a"
    magnitude = abs(seconds)
    if magnitude >= 90.0:
        whole = round(seconds)
        return f"{whole // 60} min {whole % 60:02d} s"
    if magnitude >= 0.9995:
        return f"{_three_digits(seconds)} s"
    if magnitude >= 0.9995e-3:
        return f"{_three_digits(seconds * 1e3)} ms"
    return f"{_three_digits(seconds * 1e6)} us"


def format_fraction(fraction: float | None) -> str:
    """Print a fraction as a percentage; `n/a` for None."""
    return "n/a" if fraction is None else f"{fraction * 100:.1f} %"


def format_joules(joules: float | None) -> str:
    """Print an energy with three significant digits; `n/a` for None."""
    if joules is None:
        return "n/a"
    magnitude = abs(joules)
    if magnitude >= 0.9995:
        return f"{_three_digits(joules)} J"
    if magnitude >= 0.9995e-3:
        return f"{_three_digits(joules * 1e3)} mJ"
    return f"{_three_digits(joules * 1e6)} uJ"


def _three_digits(value: float) -> str:
    if value == 0.0:
        return "0"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(decimals, 3)}f}"
