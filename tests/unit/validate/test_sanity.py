import pytest

from edgeprune.validate.sanity import has_loop, matched_count


@pytest.mark.parametrize("period", [1, 2, 5, 8])
def test_endless_repetition_is_found(period: int) -> None:
    assert has_loop(list(range(100, 120)) + list(range(period)) * 40)


def test_ordinary_text_and_short_texts_are_no_loop() -> None:
    assert not has_loop([1, 2, 3] * 8 + [4, 5])
    assert not has_loop([7] * 20)
    assert not has_loop(list(range(12)) * 6)


def test_leading_tokens_are_counted() -> None:
    assert matched_count([1, 2, 3, 4], [1, 2, 9, 4]) == 2
    assert matched_count([1, 2], [1, 2, 3]) == 2
    assert matched_count([], [1]) == 0
