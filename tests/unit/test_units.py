"""Sizes, times and rates: parsed strictly, printed with three digits."""

import pytest

from edgeprune.errors import UsageError
from edgeprune.units import (
    format_bytes,
    format_seconds,
    parse_bytes,
    parse_fraction,
    parse_percent,
    parse_seconds,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1.5GB", 1_500_000_000), ("900 MiB", 900 * 2**20), ("1kib", 1024), ("20kB", 20_000), ("7B", 7)],
)
def test_sizes(text: str, value: int) -> None:
    assert parse_bytes(text) == value


@pytest.mark.parametrize("text", ["300", "", "MB", "1e3MB", "-1MB", "1 2MB", "nanMB", "1.5.2GB", "1XB"])
def test_sizes_that_could_mean_anything_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="size"):
        parse_bytes(text)


def test_times_and_fractions() -> None:
    assert parse_seconds("12ms") == pytest.approx(0.012)
    assert parse_percent("60%") == pytest.approx(0.6)
    assert parse_percent("60") is None
    assert parse_fraction("2%") == pytest.approx(0.02)
    assert parse_fraction("0.02") == pytest.approx(0.02)
    for wrong in ("-0.1", "nan", "inf", "x"):
        with pytest.raises(UsageError):
            parse_fraction(wrong)


@pytest.mark.parametrize(
    ("count", "text"), [(None, "n/a"), (0, "0 B"), (999, "999 B"), (1234, "1.23 kB"), (98_709_504, "98.7 MB")]
)
def test_bytes_are_printed_with_three_digits(count: int | None, text: str) -> None:
    assert format_bytes(count) == text


def test_seconds_are_printed_in_the_unit_people_read() -> None:
    assert format_seconds(0.00123) == "1.23 ms"
    assert format_seconds(12.3e-6) == "12.3 us"
    assert format_seconds(155.6) == "2 min 36 s"
