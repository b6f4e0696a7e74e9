"""Questions asked in batches: the same answers as one row at a time."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeprune.calibrate.answers import AskedQuestions
from edgeprune.intake.load import LoadedModel, load_model
from edgeprune.schema.questions import Question
from tests.tiny import write_tiny_llama

QUESTIONS = [
    Question(prompt="The river rises in", choices=(" spring", " the old town", " a"), answer=1),
    Question(prompt="A doctor", choices=(" lived in the last house of the street", " read"), answer=0),
    Question(prompt="12, 34 and 567 are", choices=(" numbers",), answer=0),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_model(write_tiny_llama(Path(tmp_path_factory.mktemp("tiny")) / "llama"))


def nats(model: LoadedModel, prompt: str, choice: str) -> float:
    start = model.tokenizer.encode(prompt, add_special_tokens=False).ids
    end = model.tokenizer.encode(choice, add_special_tokens=False).ids
    with torch.no_grad():
        logits = model.model(torch.tensor([[*start, *end]])).logits[0].double()
    chances = torch.log_softmax(logits, dim=-1)
    return -sum(float(chances[len(start) - 1 + place, token]) for place, token in enumerate(end))


def test_batches_answer_as_single_rows_do(model: LoadedModel) -> None:
    found = AskedQuestions(model, QUESTIONS, context_tokens=64).ask(model)
    for number, question in enumerate(QUESTIONS):
        scores = [-nats(model, question.prompt, choice) / len(choice.encode()) for choice in question.choices]
        assert found.gold_nats[number] == pytest.approx(
            nats(model, question.prompt, question.choices[question.answer]), rel=1e-5
        )
        if len(scores) > 1:
            assert found.is_right[number] == (scores.index(max(scores)) == question.answer)
    assert found.log_loss == pytest.approx(float(np.mean(found.gold_nats)))


def test_some_questions_are_the_same_as_those_of_all(model: LoadedModel) -> None:
    asked = AskedQuestions(model, QUESTIONS, context_tokens=64)
    some = np.array([2, 0])
    whole, part = asked.ask(model), asked.ask(model, some)
    assert part.gold_nats == pytest.approx(whole.of(some).gold_nats, rel=1e-5)
    assert list(part.is_right) == list(whole.of(some).is_right)


def test_an_exact_match_is_what_greedy_decoding_writes(model: LoadedModel) -> None:
    prompt = "The judge read"
    ids = model.tokenizer.encode(prompt, add_special_tokens=False).ids
    with torch.no_grad():
        best = int(model.model(torch.tensor([ids])).logits[0, -1].argmax())
    text = model.tokenizer.decode([best])
    if model.tokenizer.encode(text, add_special_tokens=False).ids != [best]:
        pytest.skip("the greedy token is no text of its own in this tokenizer")
    questions = [
        Question(prompt=prompt, choices=(text,), answer=0),
        Question(prompt=prompt, choices=(" zz",), answer=0),
    ]
    found = AskedQuestions(model, questions, context_tokens=64).ask(model)
    assert list(found.is_right) == [True, False]
    assert math.isfinite(found.log_loss)
