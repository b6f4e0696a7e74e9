from pathlib import Path

import pytest

from edgeprune.calibrate.questions import read_questions, split_questions
from edgeprune.errors import CalibrationError
from edgeprune.schema.questions import Question

GOOD = '{"prompt": "2 + 2 =", "choices": [" 3", " 4"], "answer": 1}\n'


def test_reads_questions(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(GOOD * 2)
    questions = read_questions(path)
    assert len(questions) == 2
    assert questions[0].choices[questions[0].answer] == " 4"


def test_a_text_as_answer_is_an_exact_match(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(GOOD + '{"prompt": "2 + 2 =", "answer": " 4"}\n')
    choice, exact = read_questions(path)
    assert len(choice.choices) == 2
    assert (exact.choices, exact.answer) == ((" 4",), 0)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[]", "line 2 is not an object"),
        ("{", "line 2 is not JSON"),
        ('{"choices": ["a", "b"], "answer": 0}', "line 2 has no prompt"),
        ('{"prompt": "p", "choices": ["a"], "answer": 0}', "line 2 needs choices"),
        ('{"prompt": "p", "answer": 0}', "line 2 needs choices"),
        ('{"prompt": "p", "answer": ""}', "line 2 has an empty answer"),
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


def test_no_question_is_both_selected_and_reported_on() -> None:
    questions = [
        Question(prompt=f"Number {index % 9}", choices=(" is even", " is odd"), answer=index % 9 % 2)
        for index in range(18)
    ]
    select, report = split_questions(questions)
    assert not {entry.prompt for entry in select} & {entry.prompt for entry in report}
    assert len(select) + len(report) == 18
    assert len({entry.prompt for entry in select}) == 4
    # Whichever order they come in, a question stays in its half.
    again, _ = split_questions(questions[::-1])
    assert set(again) == set(select)
    assert split_questions(questions[:1]) == ([], questions[:1])
