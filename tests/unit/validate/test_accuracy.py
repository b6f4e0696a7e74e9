from pathlib import Path

import numpy as np
import pytest

from edgeprune.artifacts import read_arrays, write_arrays
from edgeprune.errors import ModelError
from edgeprune.schema.bundle import ChoiceSet
from edgeprune.validate.accuracy import ChoiceRequest, measure_accuracy, read_questions, wilson_interval
from tests.device.decoder_graph import TinyDecoder


def request(bundle: Path, *, context_tokens: int = 32) -> ChoiceRequest:
    return ChoiceRequest(
        model=str(bundle / "model.onnx"),
        execution_provider="CPUExecutionProvider",
        thread_count=1,
        context_tokens=context_tokens,
        prefill_chunk_tokens=8,
        choices=ChoiceSet(name="quiz", path="eval/choice.npz", question_count=4),
        path=str(bundle / "eval" / "choice.npz"),
    )


def test_wilson_interval_of_known_cases() -> None:
    assert wilson_interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson_interval(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson_interval(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)


def test_answers_are_those_computed_in_numpy(shared_bundle: Path) -> None:
    result = measure_accuracy(request(shared_bundle))
    assert (result.accuracy, result.question_count) == (1.0, 12)
    assert (result.low, result.high) == wilson_interval(12, 12)


def test_other_answers_give_another_accuracy(bundle: Path) -> None:
    path = bundle / "eval" / "choice.npz"
    arrays = read_arrays(path)
    arrays["answers"] = (arrays["answers"] + np.array([0, 1, 1, 1])) % 4
    write_arrays(path, arrays)
    assert measure_accuracy(request(bundle)).accuracy == 0.25


def exact(bundle: Path, answers: list[list[int]]) -> None:
    """Replace the questions by exact-match ones after the prompt 3, 7, 5."""
    prompt = [3, 7, 5]
    sequences = [[*prompt, *answer] for answer in answers]
    count = len(answers)
    write_arrays(
        bundle / "eval" / "choice.npz",
        {
            "tokens": np.concatenate(sequences).astype(np.int32),
            "offsets": np.cumsum([0, *map(len, sequences)]),
            "prompt_lengths": np.full(count, 3, dtype=np.int32),
            "choice_bytes": np.full(count, 4, dtype=np.int32),
            "choice_counts": np.ones(count, dtype=np.int32),
            "answers": np.zeros(count, dtype=np.int32),
        },
    )


def test_an_exact_answer_is_right_when_greedy_decoding_writes_all_of_it(bundle: Path, tiny: TinyDecoder) -> None:
    written = [3, 7, 5]
    for _ in range(3):
        written.append(int(tiny.logits(written)[-1].argmax()))
    right = written[3:]
    wrong_end = [*right[:2], (right[2] + 1) % tiny.vocab]
    wrong_start = [(right[0] + 1) % tiny.vocab, *right[1:]]
    exact(bundle, [right, right[:1], wrong_end, wrong_start])
    result = measure_accuracy(request(bundle))
    assert (result.accuracy, result.question_count) == (0.5, 4)


def test_a_long_prompt_loses_its_beginning(bundle: Path) -> None:
    path = bundle / "eval" / "choice.npz"
    arrays = read_arrays(path)
    sequences = [
        np.concatenate([np.full(50, 3), arrays["tokens"][first:last]])
        for first, last in zip(arrays["offsets"][:-1], arrays["offsets"][1:], strict=True)
    ]
    longest = max(sequence.size for sequence in sequences) - 50
    arrays["tokens"] = np.concatenate(sequences).astype(np.int32)
    arrays["offsets"] = np.concatenate([[0], np.cumsum([sequence.size for sequence in sequences])])
    arrays["prompt_lengths"] = arrays["prompt_lengths"] + 50
    write_arrays(path, arrays)
    assert measure_accuracy(request(bundle, context_tokens=longest)).question_count == 4


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("answers", lambda array: array + 4),
        ("prompt_lengths", lambda array: array * 0),
        ("prompt_lengths", lambda array: array + 100),
        ("choice_bytes", lambda array: array * 0),
        ("choice_counts", lambda array: array + 1),
        ("offsets", lambda array: array[::-1]),
    ],
)
def test_arrays_that_contradict_each_other_are_refused(bundle: Path, name: str, change: object) -> None:
    assert callable(change)
    path = bundle / "eval" / "choice.npz"
    arrays = read_arrays(path)
    write_arrays(path, arrays | {name: change(arrays[name])})
    with pytest.raises(ModelError, match="malformed"):
        read_questions(path)


def test_a_missing_array_is_named(bundle: Path) -> None:
    path = bundle / "eval" / "choice.npz"
    arrays = read_arrays(path)
    del arrays["answers"]
    write_arrays(path, arrays)
    with pytest.raises(ModelError, match="no array answers"):
        read_questions(path)
