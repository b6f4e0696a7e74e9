"""Attention of an 8-bit cache: its own measured times, or without any the float ones in a wider range."""

import pytest
from msgspec.structs import replace

from edgeprune.predict.attention_table import ATTENTION_SPREAD, UNTIMED_CACHE_SPREAD, AttentionTable
from edgeprune.schema.device import AttentionTime


def timed(kv_bits: int, factor: float, heads: tuple[int, int, int] = (4, 2, 64)) -> list[AttentionTime]:
    num_heads, num_kv_heads, head_dim = heads
    return [
        AttentionTime(
            rows=rows,
            past_tokens=past,
            num_heads=num_heads,
            num_kv_heads=num_kv_heads,
            head_dim=head_dim,
            time_s=factor * rows * (1e-6 + 1e-9 * past),
            kv_bits=kv_bits,
        )
        for rows, past in ((1, 127), (1, 511), (128, 0))
    ]


ASKED = {"rows": 1, "past_tokens": 319, "num_heads": 4, "num_kv_heads": 2, "head_dim": 64}


def test_an_8_bit_cache_takes_its_own_times() -> None:
    table = AttentionTable([*timed(32, 1.0), *timed(8, 1.3)])
    plain, rounded = table.time_s(**ASKED), table.time_s(**ASKED, kv_bits=8)
    assert plain is not None
    assert rounded is not None
    assert table.has_int8_cache
    assert plain.value == pytest.approx(1e-6 + 319e-9)
    assert rounded.value == pytest.approx(1.3 * plain.value)
    assert rounded.high / rounded.value == pytest.approx(1 + ATTENTION_SPREAD)


def test_heads_timed_in_float_alone_take_over_the_factor_of_the_nearest() -> None:
    table = AttentionTable([*timed(32, 1.0), *timed(8, 0.8), *timed(32, 5.0, (32, 8, 128))])
    wide = ASKED | {"num_heads": 32, "num_kv_heads": 8, "head_dim": 128}
    plain, rounded = table.time_s(**wide), table.time_s(**wide, kv_bits=8)
    assert plain is not None
    assert rounded is not None
    assert plain.value == pytest.approx(5 * (1e-6 + 319e-9))
    assert rounded.value == pytest.approx(0.8 * plain.value)


def test_a_device_that_timed_none_says_so_by_its_range() -> None:
    table = AttentionTable(timed(32, 1.0))
    plain, rounded = table.time_s(**ASKED), table.time_s(**ASKED, kv_bits=8)
    assert plain is not None
    assert rounded is not None
    assert not table.has_int8_cache
    assert rounded.value == plain.value
    assert rounded.high / rounded.value == pytest.approx(1 + UNTIMED_CACHE_SPREAD)
    assert AttentionTable([]).time_s(**ASKED, kv_bits=8) is None


def test_keys_and_values_from_memory_add_their_bytes_at_the_measured_rate() -> None:
    hot = timed(32, 1.0)
    read_bytes = 2 * 2 * 64 * 511 * 4
    cold = replace(hot[1], time_s=hot[1].time_s + 1e-10 * read_bytes, is_cached=False)
    table = AttentionTable([cold, *hot])
    cached, streaming = table.time_s(**ASKED), table.time_s(**ASKED, is_cached=False)
    assert cached is not None
    assert streaming is not None
    assert cached.value == pytest.approx(1e-6 + 319e-9)
    assert streaming.value - cached.value == pytest.approx(1e-10 * 2 * 2 * 64 * 319 * 4)
    never_timed = AttentionTable(hot).time_s(**ASKED, is_cached=False)
    assert never_timed is not None
    assert never_timed.value == cached.value
