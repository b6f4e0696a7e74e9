import pytest

from edgeprune.demo.grammar import Draw, expand, sentence_case


def test_equal_keys_give_equal_draws_and_other_keys_give_others() -> None:
    first, again, other = Draw(0, "a"), Draw(0, "a"), Draw(0, "b")
    assert [first.below(1000) for _ in range(9)] == [again.below(1000) for _ in range(9)]
    assert Draw(0, "a").below(10**9) != other.below(10**9)


def test_template_chooses_alternatives_and_fills_slots() -> None:
    texts = {expand("{p} [sold [one|two]|kept]{end}", Draw(i), {"p": "Ada", "end": (".", "!")}) for i in range(200)}
    bodies = ("Ada sold one", "Ada sold two", "Ada kept")
    assert texts == {body + end for body in bodies for end in ".!"}


def test_article_agrees_with_the_word_that_was_chosen() -> None:
    assert expand("a {x} and a {y}", Draw(0), {"x": "early bond", "y": "usual one"}) == "an early bond and a usual one"


def test_unbalanced_template_is_refused() -> None:
    with pytest.raises(ValueError, match="unbalanced"):
        expand("[one|two", Draw(0), {})
    with pytest.raises(ValueError, match="unbalanced"):
        expand("one]", Draw(0), {})


def test_unknown_slot_is_refused() -> None:
    with pytest.raises(KeyError):
        expand("{nobody}", Draw(0), {})


def test_weighted_draw_follows_the_weights() -> None:
    draw = Draw(1)
    counts = [0, 0, 0]
    for _ in range(6000):
        counts[draw.weighted((1.0, 1.5, 3.0))] += 1
    assert counts == pytest.approx([2000, 1000, 3000], rel=0.1)


def test_some_gives_different_members() -> None:
    assert sorted(Draw(2).some("abcdef", 6)) == list("abcdef")
    assert len(Draw(2).some("abc", 9)) == 3


def test_sentence_case_leaves_the_rest_alone() -> None:
    assert sentence_case("the Act") == "The Act"
    assert sentence_case("") == ""
