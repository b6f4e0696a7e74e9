"""Task files: JSON lines with `prompt`, `choices` (two strings or more) and `answer` (index of the right one).

A line without `choices` and with a text as `answer` is an exact-match question: the model must write that text next.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from edgeprune.calibrate.documents import read_lines
from edgeprune.errors import CalibrationError
from edgeprune.schema.questions import Question

__all__ = ["read_questions", "split_questions"]


def read_questions(path: Path) -> list[Question]:
    """Read and check a question file.

    Raises:
        CalibrationError: missing, empty, binary, not UTF-8, or a line that is no question; the message names the line.
    """
    questions = []
    for number, line in read_lines(path):
        try:
            raw = msgspec.json.decode(line)
        except msgspec.DecodeError as error:
            raise CalibrationError(f"{path} line {number} is not JSON ({error}); write one question a line.") from error
        questions.append(_question(raw, where=f"{path} line {number}"))
    if not questions:
        raise CalibrationError(f"{path} holds no question; write one JSON object a line.")
    return questions


def split_questions(questions: Sequence[Question]) -> tuple[list[Question], list[Question]]:
    """Questions to select on and questions to report on: halves by rank of their content's hash, so that none is both.

    The same question twice falls into one half. A single question is for the report.
    """
    ordered = sorted(questions, key=lambda question: hashlib.sha256(msgspec.json.encode(question)).digest())
    different = list(dict.fromkeys(ordered))
    selected = set(different[: len(different) // 2])
    return [one for one in questions if one in selected], [one for one in questions if one not in selected]


def _question(raw: object, *, where: str) -> Question:
    if not isinstance(raw, dict):
        raise CalibrationError(f"{where} is not an object; write prompt, choices and answer.")
    prompt, choices, answer = raw.get("prompt"), raw.get("choices"), raw.get("answer")
    if not isinstance(prompt, str) or not prompt:
        raise CalibrationError(f"{where} has no prompt; give a text that the choices continue.")
    if choices is None and isinstance(answer, str):
        if not answer:
            raise CalibrationError(f"{where} has an empty answer; give the text the model must write next.")
        return Question(prompt=prompt, choices=(answer,), answer=0)
    if not isinstance(choices, list) or len(choices) < 2 or not all(isinstance(item, str) and item for item in choices):
        raise CalibrationError(
            f"{where} needs choices: a list of at least two texts that are not empty; or leave them out and give the "
            "exact text as answer."
        )
    if isinstance(answer, bool) or not isinstance(answer, int) or not 0 <= answer < len(choices):
        raise CalibrationError(f"{where} needs answer: a whole number in 0..{len(choices) - 1}, index of a choice.")
    return Question(prompt=prompt, choices=tuple(choices), answer=answer)
