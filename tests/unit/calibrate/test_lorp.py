import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeprune.calibrate.capture import capture
from edgeprune.calibrate.corpus import encode, pack_windows
from edgeprune.calibrate.depth_scores import lorp_options
from edgeprune.calibrate.lorp import cluster_blocks, cluster_count, lorp_blocks, representation_locality
from edgeprune.intake.load import load_model


def blocky(sizes: tuple[int, ...], inside: float, outside: float) -> np.ndarray:
    owner = np.repeat(np.arange(len(sizes)), sizes)
    similarity = np.where(owner[:, None] == owner[None, :], inside, outside)
    np.fill_diagonal(similarity, 1.0)
    return similarity


def test_locality_of_known_matrices() -> None:
    assert representation_locality(blocky((4,), 0.5, 0.0)) == pytest.approx(1.0)
    assert representation_locality(np.eye(4)) is None
    assert representation_locality(np.eye(1)) is None


@pytest.mark.parametrize(("locality", "count"), [(1.2, 2), (1.0, 2), (0.99, 3), (0.7, 3), (0.69, 4), (None, 2)])
def test_number_of_clusters_by_locality(locality: float | None, count: int) -> None:
    assert cluster_count(locality) == count


def test_finds_the_clusters_of_a_block_matrix() -> None:
    assert cluster_blocks(blocky((3, 4), 0.9, 0.0), 2) == [[0, 1, 2], [3, 4, 5, 6]]


def test_first_and_last_block_always_stay() -> None:
    similarity = blocky((3, 4), 0.9, 0.1)
    clusters = [[0, 1, 2], [3, 4, 5, 6]]
    assert lorp_blocks(similarity, 99, clusters) == [1, 2, 3, 4, 5]


def test_a_cluster_of_one_gives_its_member_in_stage_one() -> None:
    similarity = blocky((3, 1, 3), 0.9, 0.1)
    assert lorp_blocks(similarity, 3, [[0, 1, 2], [3], [4, 5, 6]])[1] == 3


def test_stage_two_takes_from_the_tightest_remaining_cluster() -> None:
    similarity = blocky((4, 4), 0.6, 0.1)
    similarity[4:, 4:] = 0.9
    np.fill_diagonal(similarity, 1.0)
    clusters = [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert len(set(lorp_blocks(similarity, 3, clusters)) & {4, 5, 6}) == 2


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_small_models_have_options_that_keep_both_ends(count: int) -> None:
    rng = np.random.default_rng(count)
    states = rng.standard_normal((count, 64)) + 2 * rng.standard_normal(64)
    states /= np.linalg.norm(states, axis=1, keepdims=True)
    options = lorp_options(states @ states.T)
    assert len(options) == (0 if count < 3 else min(count // 2, count - 2))
    for removed, option in enumerate(options, start=1):
        assert len(option) == removed
        assert not {0, count - 1} & set(option)


@pytest.mark.lab
@pytest.mark.skipif("EDGEPRUNE_LAB" not in os.environ, reason="EDGEPRUNE_LAB names no lab folder")
@pytest.mark.parametrize("domain", ["medicine", "law"])
def test_chooses_the_blocks_that_the_published_code_chose(domain: str) -> None:
    lab = Path(os.environ["EDGEPRUNE_LAB"])
    fixture = json.loads((lab / "fixtures" / f"depth.{domain}.json").read_text())
    loaded = load_model(lab / "model")
    lines = (lab / "text" / f"{domain}.calib.jsonl").read_text().splitlines()
    tokens = encode(loaded.tokenizer, [json.loads(line)["text"] for line in lines])
    windows = pack_windows(tokens, separator=0, window_tokens=256, limit_tokens=64 * 256)
    torch.set_num_threads(2)

    similarity = capture(loaded, windows, gradient_tokens=0).block_similarity.numpy()

    np.testing.assert_allclose(similarity, fixture["similarity"], atol=2e-6)
    locality = representation_locality(similarity)
    assert locality is not None
    assert math.isclose(locality, fixture["rls"], abs_tol=1e-6)
    options = lorp_options(similarity)
    assert {str(len(option)): list(option) for option in options} == fixture["lorp"]
