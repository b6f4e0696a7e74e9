"""Near are documents that share what few have; what all have tells nothing."""

import math

import pytest
import torch

from edgeprune.calibrate.relatedness import nearest_similarity

COMMON = 0
"""A token that every document has twice, one after the other."""


def test_the_same_document_is_nearest_and_one_with_nothing_rare_in_common_is_far() -> None:
    others = [[COMMON, COMMON, 1, 1, 2], [COMMON, COMMON, 3, 4]]
    found = nearest_similarity([[COMMON, COMMON, 1, 1, 2], [COMMON, COMMON, 5, 6], [COMMON, COMMON]], others, 8)
    assert found.tolist() == pytest.approx([1.0, 0.0, 0.0], abs=1e-6)


def test_tokens_in_another_order_are_another_term() -> None:
    found = nearest_similarity([[1, 2, 3], [3, 2, 1]], [[1, 2, 3], [5, 6]], 8)
    assert found.tolist() == pytest.approx([1.0, 0.0], abs=1e-6)


def test_weights_are_damped_counts_by_rarity() -> None:
    # Of four documents two have 1 after 1, and one each has 2 and 3 after it; 1 comes after 1 three times in the first.
    found = nearest_similarity([[1, 1, 1, 1, 2]], [[1, 1, 3], [4, 4], [5, 5]], 8)
    common, rare = math.log(4 / 2) ** 3, math.log(4 / 1) ** 3
    mine = torch.tensor([(1 + math.log(3)) * common, rare, 0.0])
    yours = torch.tensor([common, 0.0, rare])
    assert found.item() == pytest.approx(float(mine @ yours / (mine.norm() * yours.norm())), rel=1e-5)


def test_many_documents_are_as_few(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    documents = torch.randint(5, (11, 12), generator=generator).tolist()
    others = torch.randint(5, (7, 12), generator=generator).tolist()
    whole = nearest_similarity(documents, others, 5)
    monkeypatch.setattr("edgeprune.calibrate.relatedness._DOCUMENTS_AT_ONCE", 3)
    assert torch.allclose(nearest_similarity(documents, others, 5), whole)
    assert whole.min() > 0.0
    assert whole.max() < 1.0


def test_without_documents_or_others_nothing_is_near() -> None:
    assert nearest_similarity([], [[1]], 4).tolist() == []
    assert nearest_similarity([[1], []], [], 4).tolist() == [0.0, 0.0]
    assert nearest_similarity([[]], [[1], [2]], 4).tolist() == [0.0]
