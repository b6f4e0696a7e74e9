"""Documents in a model's chat format."""

from typing import Any

from edgeprune.calibrate.chat_text import as_conversations


def _render(messages: list[dict[str, Any]]) -> str:
    return "".join(f"<{message['role']}>{message['content']}" for message in messages)


def test_a_document_becomes_a_question_and_an_answer_and_loses_no_word() -> None:
    document = "The patient has a fever. Two tablets\nin the morning, one in the evening."
    (rendered,) = as_conversations([document], _render)
    question, answer = rendered.removeprefix("<user>").split("<assistant>")
    assert question
    assert answer
    assert f"{question} {answer}".split() == document.split()


def test_repeated_words_and_short_documents() -> None:
    assert as_conversations(["word", "   "], _render) == []
    assert as_conversations(["a a"], _render) == ["<user>a<assistant>a"]
    (rendered,) = as_conversations(["no no no no"], _render)
    assert rendered.count("no") == 4
