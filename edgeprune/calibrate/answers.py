"""Answers of a model to many questions at once: which are right, and how probable the right choice is.

A choice's score is the mean log-probability per UTF-8 byte of its tokens after the prompt; the highest wins, ties go to
the first. A question with one choice is right when greedy decoding writes it. Rows of like length share a batch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from edgeprune.calibrate.loss import hidden_states
from edgeprune.intake.adapters.logit_cap import bend
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.events import NullProgress, Progress
from edgeprune.schema.questions import Question

__all__ = ["Answers", "AskedQuestions", "joined"]

_TOKENS_AT_ONCE = 4096
"""Tokens of one forward pass, padding included."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a model answered, in the order of the questions."""

    is_right: NDArray[np.bool_]
    """[n]."""
    gold_nats: NDArray[np.float64]
    """[n]: minus the log-probability of the right choice's tokens after the prompt."""

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return float(self.is_right.mean())

    @property
    def log_loss(self) -> float:
        """Mean over questions of `gold_nats`."""
        return float(self.gold_nats.mean())

    def of(self, indices: NDArray[np.int64]) -> "Answers":
        """The answers to some of the questions."""
        return Answers(is_right=self.is_right[indices], gold_nats=self.gold_nats[indices])


def joined(parts: Sequence[Answers]) -> Answers:
    """Answers to several sets of questions, one after the other."""
    return Answers(
        is_right=np.concatenate([part.is_right for part in parts]),
        gold_nats=np.concatenate([part.gold_nats for part in parts]),
    )


@dataclass(frozen=True)
class _Row:
    question: int
    choice: int
    tokens: tuple[int, ...]
    answer_count: int
    """Tokens at the end that belong to the choice."""
    byte_count: int


class AskedQuestions:
    """Questions encoded once, to be asked of a model again and again."""

    def __init__(self, loaded: LoadedModel, questions: Sequence[Question], *, context_tokens: int) -> None:
        """Encode; what is longer than the context loses its beginning."""
        self._questions = questions
        self._rows: list[_Row] = []
        for number, question in enumerate(questions):
            prompt = loaded.tokenizer.encode(question.prompt, add_special_tokens=False).ids
            for position, choice in enumerate(question.choices):
                ids = loaded.tokenizer.encode(choice, add_special_tokens=False).ids
                kept = tuple([*prompt, *ids][-context_tokens:])
                count = min(len(ids), len(kept) - 1)
                self._rows.append(_Row(number, position, kept, count, len(choice.encode())))

    def __len__(self) -> int:
        return len(self._questions)

    @torch.no_grad()
    def ask(
        self, loaded: LoadedModel, indices: NDArray[np.int64] | None = None, *, progress: Progress | None = None
    ) -> Answers:
        """Answers to all questions, or to those of the indices, in their order."""
        watch = progress or NullProgress()
        asked = np.arange(len(self)) if indices is None else indices
        wanted = set(asked.tolist())
        scores: dict[int, dict[int, float]] = {number: {} for number in wanted}
        gold = np.zeros(len(self))
        is_written: dict[int, bool] = {}
        for batch in _batches([row for row in self._rows if row.question in wanted]):
            watch.raise_if_cancelled()
            for row, nats, is_greedy in _scored(loaded, batch):
                scores[row.question][row.choice] = -nats / row.byte_count
                is_written[row.question] = is_greedy
                if row.choice == self._questions[row.question].answer:
                    gold[row.question] = nats
        right = [self._is_right(number, scores[number], is_written[number]) for number in asked.tolist()]
        return Answers(is_right=np.array(right, dtype=bool), gold_nats=gold[asked])

    def _is_right(self, number: int, scores: dict[int, float], is_written: bool) -> bool:
        question = self._questions[number]
        if len(question.choices) == 1:
            return is_written
        return max(range(len(question.choices)), key=lambda choice: (scores[choice], -choice)) == question.answer


def _batches(rows: Sequence[_Row]) -> Iterator[list[_Row]]:
    batch: list[_Row] = []
    for row in sorted(rows, key=lambda row: len(row.tokens)):
        if batch and len(row.tokens) * (len(batch) + 1) > _TOKENS_AT_ONCE:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _scored(loaded: LoadedModel, batch: Sequence[_Row]) -> Iterator[tuple[_Row, float, bool]]:
    """Each row with the nats of its choice and whether greedy decoding writes it."""
    longest = max(len(row.tokens) for row in batch)
    # Padding stands on the right of a causal model: no scored position sees it.
    padded = torch.zeros(len(batch), longest, dtype=torch.long)
    for place, row in enumerate(batch):
        padded[place, : len(row.tokens)] = torch.tensor(row.tokens)
    hidden = hidden_states(loaded, padded[:, :-1])
    head, cap = loaded.adapter.head(loaded.model), loaded.adapter.logit_cap(loaded.model)
    for place, row in enumerate(batch):
        end = len(row.tokens)
        logits = bend(head(hidden[place, end - 1 - row.answer_count : end - 1]), cap)
        target = padded[place, end - row.answer_count : end]
        picked = torch.log_softmax(logits.double(), dim=-1).gather(1, target[:, None])
        yield row, -float(picked.sum()), bool((logits.argmax(dim=-1) == target).all())
