"""Torch's own figures on exact-match questions, the ones validation is held to."""

from pathlib import Path

import pytest
import torch

from edgeprune.calibrate.answers import AskedQuestions
from edgeprune.export.evaluation import EvaluationChoices, write_choices
from edgeprune.export.reference import reference_accuracy
from edgeprune.intake.load import LoadedModel, load_model
from edgeprune.schema.events import NullProgress
from edgeprune.schema.questions import Question
from tests.tiny import write_tiny_llama


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    torch.set_num_threads(1)
    return load_model(write_tiny_llama(tmp_path_factory.mktemp("llama") / "model"))


def greedy_text(llama: LoadedModel, prompt: str) -> str | None:
    """What two greedy tokens write after the prompt; None where that text is tokenised otherwise."""
    ids = llama.tokenizer.encode(prompt, add_special_tokens=False).ids
    written = list(ids)
    with torch.no_grad():
        for _ in range(2):
            written.append(int(llama.model(torch.tensor([written])).logits[0, -1].argmax()))
    text = str(llama.tokenizer.decode(written[len(ids) :]))
    again = llama.tokenizer.encode(text, add_special_tokens=False).ids
    return text if again == written[len(ids) :] else None


def test_exact_answers_count_when_torch_would_write_them(llama: LoadedModel, tmp_path: Path) -> None:
    prompts = [f"The patient number {number} was given" for number in range(20)]
    found = [(prompt, text) for prompt in prompts if (text := greedy_text(llama, prompt))]
    assert found
    prompt, right = found[0]
    wrong = "judge" if right != "judge" else "river"
    questions = [
        Question(prompt=prompt, choices=(right,), answer=0),
        Question(prompt=prompt, choices=(wrong,), answer=0),
        Question(prompt=prompt, choices=(wrong, "tablets"), answer=0),
        Question(prompt=prompt, choices=("tablets", wrong), answer=0),
    ]
    written = write_choices(
        EvaluationChoices(name="q", questions=questions), llama.tokenizer, tmp_path, context_tokens=64
    )
    share = reference_accuracy(llama, tmp_path / written.path, context_tokens=64, progress=NullProgress())
    # The exact answer is right, the wrong one is not, and of the same two choices one order is right.
    assert share == 0.5
    assert AskedQuestions(llama, questions, context_tokens=64).ask(llama).accuracy == 0.5
