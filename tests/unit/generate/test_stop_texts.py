"""An answer ends before a stop text, wherever the pieces are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.generate.stop_texts import StopTexts


def shown(pieces: list[str], stops: list[str]) -> str:
    texts = StopTexts(stops)
    found = "".join(texts.feed(piece) for piece in pieces)
    return found + texts.flush()


@pytest.mark.parametrize("pieces", [["ab", "cENDd"], ["abcE", "N", "Dd"], ["abcEND"], list("abcENDd")])
def test_a_stop_text_ends_the_answer_however_it_is_cut(pieces: list[str]) -> None:
    assert shown(pieces, ["END"]) == "abc"


def test_what_only_began_like_a_stop_text_is_shown_in_the_end() -> None:
    texts = StopTexts(["END"])
    assert texts.feed("ab EN") == "ab "
    assert texts.feed("D") == ""
    assert texts.is_hit
    assert shown(["ab EN"], ["END"]) == "ab EN"


@given(st.lists(st.text("abX", max_size=4), max_size=6), st.lists(st.text("abX", min_size=1, max_size=3), max_size=3))
def test_any_cut_gives_what_the_whole_gives(pieces: list[str], stops: list[str]) -> None:
    whole = "".join(pieces)
    ends = [at for stop in stops if (at := whole.find(stop)) >= 0]
    found = shown(pieces, stops)
    assert whole.startswith(found)
    if not ends:
        assert found == whole
    else:
        assert all(stop not in found for stop in stops)
