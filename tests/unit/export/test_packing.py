"""Byte layouts on matrices whose packing is known."""

import numpy as np
import pytest

from edgeprune.errors import ExportError
from edgeprune.export.packing import block_count, pack_blocks, rounded_exactly
from edgeprune.rounding import dequantized


def test_four_bits_share_a_byte_low_half_first() -> None:
    values = np.zeros((1, 16), dtype=np.int8)
    values[0, :4] = (-8, 7, 1, -1)
    packed = pack_blocks(values, bits=4, block_size=16)
    assert packed.shape == (1, 1, 8)
    assert packed[0, 0].tolist() == [0xF0, 0x79, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88]


def test_eight_bits_are_stored_with_half_the_range_added() -> None:
    values = np.array([[-128, -1, 0, 127] + [0] * 12], dtype=np.int8)
    assert pack_blocks(values, bits=8, block_size=16)[0, 0, :4].tolist() == [0, 127, 128, 255]


def test_the_last_block_is_padded_with_zero_points() -> None:
    packed = pack_blocks(np.zeros((2, 20), dtype=np.int8), bits=8, block_size=16)
    assert packed.shape == (2, block_count(20, 16), 16)
    assert np.all(packed == 128)


def test_a_rounded_matrix_gives_the_same_integers_again() -> None:
    weight = np.random.default_rng(0).standard_normal((8, 50)).astype(np.float32)
    for kernel in ("int4_b16_a4", "int8_b32_a0", "dynamic_int8"):
        rounded = dequantized(weight, kernel)
        assert np.array_equal(rounded_exactly(rounded, kernel, what="a").dequantized, rounded)


def test_a_matrix_that_was_not_rounded_is_refused() -> None:
    weight = np.random.default_rng(0).standard_normal((8, 32)).astype(np.float32)
    with pytest.raises(ExportError, match=r"site blocks\.0\.q is not rounded to int4_b32_a4"):
        rounded_exactly(weight, "int4_b32_a4", what="site blocks.0.q")


@pytest.mark.parametrize("kernel", ["int4_b32_a4", "int8_b16_a0", "dynamic_int8"])
def test_integers_that_other_methods_chose_are_read_back(kernel: str) -> None:
    random = np.random.default_rng(1)
    low, high = {"int4_b32_a4": (-8, 7), "int8_b16_a0": (-128, 127), "dynamic_int8": (-127, 127)}[kernel]
    width = {"int4_b32_a4": 32, "int8_b16_a0": 16, "dynamic_int8": 100}[kernel]
    blocks = -(-100 // width)
    # Grids whose ends are not used, whose steps are all even, with one value or none, of either sign.
    values = random.integers(low // 2, high // 2, (40, blocks * width), endpoint=True)
    values[:5] *= 2
    values[5, 1:] = 0
    values[6] = 0
    values[7, :width] = high
    scales = (random.uniform(0.001, 2.0, (40, blocks)) * random.choice([-1, 1], (40, blocks))).astype(np.float32)
    weight = (values * np.repeat(scales, width, axis=1)).astype(np.float32)[:, :100]
    found = rounded_exactly(weight, kernel, what="a")
    assert np.abs(found.dequantized - weight).max() <= 3e-7 * np.abs(weight).max()
    assert found.values.min() >= low
    assert found.values.max() <= high
    again = found.values * np.repeat(found.scales, width, axis=1)[:, :100]
    assert np.array_equal(again.astype(np.float32), found.dequantized)
