"""Plain documents in a model's chat format, so that the loss of the format itself can be measured.

A document becomes one exchange: its first half is what the user says, the rest is the answer. What is measured is how
well the model still reads its own template around text of the domain.
"""

from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["as_conversations"]


def as_conversations(documents: Sequence[str], render: Callable[[list[dict[str, Any]]], str]) -> list[str]:
    """Documents as the template renders them; those of one word are left out.

    Args:
        documents: plain text.
        render: the template, messages to text.

    Raises:
        UsageError: the model has no template, or the template refuses the messages.
    """
    rendered = []
    for document in documents:
        words = document.split()
        if len(words) < 2:
            continue
        half = document.find(words[len(words) // 2], len(document) // 3)
        question, answer = document[:half].strip(), document[half:].strip()
        if not question or not answer:
            question, answer = words[0], " ".join(words[1:])
        rendered.append(render([{"role": "user", "content": question}, {"role": "assistant", "content": answer}]))
    return rendered
