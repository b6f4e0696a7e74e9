from pathlib import Path

import pytest

from edgeprune.calibrate.questions import read_questions
from edgeprune.errors import CalibrationError

GOOD = '{"prompt": "2 + 2 =", "choices": [" 3", " 4"], "answer": 1}\n'


def test_reads_questions(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(GOOD * 2)
    questions = read_questions(path)
    assert len(questions) == 2
    assert questions[0].choices[questions[0].answer] == " 4"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[]", "line 2 is not an object"),
        ("{", "line 2 is not JSON"),
        ('{"choices": ["a", "b"], "answer": 0}', "line 2 has no prompt"),
        ('{"prompt": "p", "choices": ["a"], "answer": 0}', "line 2 needs choices"),
        ('{"prompt": "p", "choices": ["a", ""], "answer": 0}', "line 2 needs choices"),
        ('{"prompt": "p", "choices": ["a", "b"], "answer": 2}', r"line 2 needs answer: a whole number in 0\.\.1"),
        ('{"prompt": "p", "choices": ["a", "b"], "answer": true}', "line 2 needs answer"),
        ('{"prompt": "p", "choices": ["a", "b"], "answer": "a"}', "line 2 needs answer"),
    ],
)
def test_names_the_line_that_is_no_question(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(GOOD + line + "\n")
    with pytest.raises(CalibrationError, match=message):
        read_questions(path)


def test_refuses_missing_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="is missing"):
        read_questions(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(CalibrationError, match="is empty"):
        read_questions(tmp_path / "empty.jsonl")
