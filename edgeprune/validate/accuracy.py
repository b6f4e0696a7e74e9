"""Accuracy of a bundle on multiple-choice and exact-match questions.

The answer is the choice with the highest mean log-probability per UTF-8 byte after the prompt, so that longer choices
are not at a disadvantage and models with different vocabularies are comparable; ties go to the first. A question with
one choice is an exact match: right when greedy decoding writes it, token by token. The interval is
Wilson's (E. B. Wilson, JASA 22, 1927), which stays inside [0, 1] and is honest for few questions.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeprune.artifacts import read_arrays
from edgeprune.errors import ModelError
from edgeprune.runtime.decode import Decoder
from edgeprune.runtime.isolate import run_isolated
from edgeprune.runtime.session import open_session
from edgeprune.schema.base import Record
from edgeprune.schema.bundle import ChoiceSet
from edgeprune.schema.measurement import AccuracyResult
from edgeprune.validate.text import check_offsets, check_tokens, window_log_probabilities

__all__ = ["ChoiceRequest", "Questions", "measure_accuracy", "read_questions", "run_accuracy", "wilson_interval"]

_QUICK_QUESTION_COUNT = 100
_Z_95 = 1.959963984540054
"""97.5 % quantile of the normal distribution."""


class ChoiceRequest(Record, frozen=True, kw_only=True):
    """One set of questions to answer."""

    model: str
    execution_provider: str
    thread_count: int
    context_tokens: int
    prefill_chunk_tokens: int
    choices: ChoiceSet
    path: str
    """The .npz of `choices`."""
    is_quick: bool = False


class Questions:
    """Tokenised questions: every choice is a sequence, prompt first, and the choices of a question are adjacent."""

    def __init__(self, arrays: dict[str, NDArray[Any]], *, where: str) -> None:
        """Take the arrays of a `ChoiceSet` and check that they belong together.

        Raises:
            ModelError: an array is missing or they contradict each other.
        """
        names = ("tokens", "offsets", "prompt_lengths", "choice_bytes", "choice_counts", "answers")
        missing = [name for name in names if name not in arrays]
        if missing:
            raise ModelError(f"{where} has no array {missing[0]}; export the bundle again.")
        self.tokens = arrays["tokens"]
        self.offsets = arrays["offsets"].astype(np.int64)
        check_offsets(self.tokens, arrays["offsets"], where=where)
        self.prompt_lengths, self.choice_bytes, self.choice_counts, self.answers = (
            arrays[name].astype(np.int64) for name in names[2:]
        )
        sequence_count = self.offsets.size - 1
        lengths = np.diff(self.offsets)
        is_sound = (
            self.prompt_lengths.size == self.choice_bytes.size == sequence_count
            and self.choice_counts.size == self.answers.size > 0
            and int(self.choice_counts.sum()) == sequence_count
            and bool(np.all(self.choice_counts >= 1))
            and bool(np.all((self.answers >= 0) & (self.answers < self.choice_counts)))
            and bool(np.all((self.prompt_lengths >= 1) & (self.prompt_lengths < lengths)))
            and bool(np.all(self.choice_bytes >= 1))
        )
        if not is_sound:
            raise ModelError(f"{where} is malformed: its arrays contradict each other; export the bundle again.")

    def sequence(self, index: int) -> NDArray[Any]:
        """Tokens of one prompt with one choice."""
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]


def run_accuracy(request: ChoiceRequest, *, timeout_s: float) -> AccuracyResult:
    """Answer the questions in a fresh process.

    Raises:
        DeviceError: the process failed or ran out of memory or time.
        ModelError: the graph cannot be run or the questions do not fit it.
    """
    reply = run_isolated(
        "edgeprune.validate.child_accuracy",
        msgspec.json.encode(request),
        timeout_s=timeout_s,
        thread_count=request.thread_count,
    )
    return msgspec.json.decode(reply, type=AccuracyResult)


def read_questions(path: Path) -> Questions:
    """Read the .npz of a `ChoiceSet`."""
    return Questions(read_arrays(path), where=str(path))


def measure_accuracy(request: ChoiceRequest) -> AccuracyResult:
    """Answer the questions in this process."""
    questions = read_questions(Path(request.path))
    session = open_session(
        Path(request.model), execution_provider=request.execution_provider, thread_count=request.thread_count
    )
    decoder = Decoder(session, max_tokens=request.context_tokens, prefill_chunk_tokens=request.prefill_chunk_tokens)
    check_tokens(questions.tokens, decoder.vocab_size, where=request.path)
    count = questions.answers.size
    if request.is_quick:
        count = min(count, _QUICK_QUESTION_COUNT)
    correct_count, first = 0, 0
    for question in range(count):
        indices = range(first, first + int(questions.choice_counts[question]))
        first = indices.stop
        if len(indices) == 1:
            correct_count += writes_exactly(decoder, questions, indices[0], context_tokens=request.context_tokens)
            continue
        scores = score_choices(decoder, questions, indices, context_tokens=request.context_tokens)
        if not all(map(math.isfinite, scores)):
            raise ModelError(f"{request.model} computes NaN or Inf on a question; its weights are damaged.")
        correct_count += int(np.argmax(scores)) == int(questions.answers[question])
    low, high = wilson_interval(correct_count, count)
    return AccuracyResult(
        name=request.choices.name, accuracy=correct_count / count, low=low, high=high, question_count=count
    )


def writes_exactly(decoder: Decoder, questions: Questions, index: int, *, context_tokens: int) -> bool:
    """Whether the most likely continuation of the prompt is the answer; ties go to the lowest token id."""
    prompt, answer = _cut(questions, index, context_tokens)
    decoder.reset()
    logits = decoder.prefill(prompt)
    for position, token in enumerate(answer.tolist()):
        if not bool(np.isfinite(logits).all()):
            raise ModelError("The bundle computes NaN or Inf on a question; its weights are damaged.")
        if int(logits.argmax()) != token:
            return False
        if position + 1 < answer.size:
            logits = decoder.step(token)
    return True


def score_choices(
    decoder: Decoder, questions: Questions, indices: Sequence[int], *, context_tokens: int
) -> list[float]:
    """Mean log-probability per byte of each choice of one question.

    A prompt that all choices share is fed once. A sequence longer than the context loses the beginning of its prompt.
    """
    scores = []
    fed: NDArray[Any] | None = None
    for index in indices:
        prompt, choice = _cut(questions, index, context_tokens)
        if fed is not None and np.array_equal(prompt, fed):
            decoder.rewind(prompt.size - 1)
        else:
            decoder.reset()
            if prompt.size > 1:
                decoder.prefill(prompt[:-1])
            fed = prompt
        log_probabilities = window_log_probabilities(decoder, np.concatenate([prompt[-1:], choice]))
        scores.append(float(log_probabilities.sum()) / int(questions.choice_bytes[index]))
    return scores


def _cut(questions: Questions, index: int, context_tokens: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Prompt and continuation of one sequence, the beginning of the prompt cut where both exceed the context."""
    sequence = questions.sequence(index)
    cut = max(0, sequence.size - context_tokens)
    # At least one token before the choice is needed to predict its first.
    kept = max(1, int(questions.prompt_lengths[index]) - cut)
    return sequence[cut : cut + kept], sequence[cut + kept :]


def wilson_interval(correct_count: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a proportion (eq. (1) of the paper, solved for the proportion)."""
    if count < 1:
        raise ModelError("There is no question to answer; export the bundle with questions.")
    share = correct_count / count
    denominator = 1.0 + _Z_95**2 / count
    centre = (share + _Z_95**2 / (2 * count)) / denominator
    half = _Z_95 / denominator * math.sqrt(share * (1.0 - share) / count + _Z_95**2 / (4 * count**2))
    return max(0.0, centre - half), min(1.0, centre + half)
