"""ShortGPT and LLM-Streamline on similarities whose answer is known, and against the published selector code."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from edgeprune.calibrate.shortgpt import block_influence, shortgpt_blocks
from edgeprune.calibrate.streamline import streamline_blocks

# Directions of six block inputs in a plane, in degrees: blocks 1 and 3 turn the stream least.
ANGLES = np.radians([0.0, 50.0, 52.0, 90.0, 95.0, 160.0])
SIMILARITY = np.cos(ANGLES[:, None] - ANGLES[None, :])


def test_influence_is_the_turn_of_the_stream() -> None:
    expected = 1 - np.cos(np.radians([50.0, 2.0, 38.0, 5.0, 65.0]))
    assert block_influence(SIMILARITY) == pytest.approx(expected)


@pytest.mark.parametrize(("count", "blocks"), [(0, []), (1, [1]), (2, [1, 3]), (3, [1, 2, 3])])
def test_shortgpt_takes_the_blocks_that_turn_least(count: int, blocks: list[int]) -> None:
    assert shortgpt_blocks(SIMILARITY, count) == blocks


@pytest.mark.parametrize(("count", "blocks"), [(0, []), (1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (6, [])])
def test_streamline_takes_the_run_that_turns_least_as_a_whole(count: int, blocks: list[int]) -> None:
    assert streamline_blocks(SIMILARITY, count) == blocks


@pytest.mark.lab
@pytest.mark.skipif("EDGEPRUNE_LAB" not in os.environ, reason="EDGEPRUNE_LAB names no lab folder")
@pytest.mark.parametrize("domain", ["medicine", "law"])
def test_both_choose_what_the_published_code_chose(domain: str) -> None:
    fixture = json.loads((Path(os.environ["EDGEPRUNE_LAB"]) / "fixtures" / f"depth.{domain}.json").read_text())
    similarity = np.array(fixture["similarity"])
    for count in range(1, 9):
        assert shortgpt_blocks(similarity, count) == fixture["shortgpt"][str(count)], count
        assert streamline_blocks(similarity, count) == fixture["streamline"][str(count)], count
