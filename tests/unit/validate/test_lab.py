"""The lab model's published figures, found again by the scoring of validation (lab only)."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from edgeprune.schema.budget import Workload
from edgeprune.schema.events import NullProgress
from edgeprune.schema.questions import Question
from edgeprune.validate.accuracy import ChoiceRequest, measure_accuracy
from edgeprune.validate.text import TextRequest, measure_text

LAB = os.environ.get("EDGEPRUNE_LAB")


def read_lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.lab
@pytest.mark.slow
@pytest.mark.skipif(LAB is None, reason="EDGEPRUNE_LAB is not set")
def test_dense_figures_are_those_published_with_the_model(tmp_path: Path) -> None:
    from edgeprune.export.bundle import export_bundle
    from edgeprune.export.evaluation import EvaluationChoices, EvaluationText
    from edgeprune.intake.load import load_model
    from edgeprune.search.baselines import plain_recipe

    assert LAB is not None
    lab = Path(LAB)
    reference = json.loads((lab / "reference.json").read_text(encoding="utf-8"))
    documents = [entry["text"] for entry in read_lines(lab / "text/general.valid.jsonl")]
    questions = [
        Question(prompt=entry["prompt"], choices=tuple(entry["choices"]), answer=entry["answer"])
        for entry in read_lines(lab / "choice/medicine.valid.jsonl")
    ]
    loaded = load_model(lab / "model")
    workload = Workload(context_tokens=256)
    folder = tmp_path / "dense"
    manifest = export_bundle(
        loaded,
        plain_recipe(loaded.spec, "fp32", context_tokens=256, seed=0),
        folder=folder,
        label="dense",
        workload=workload,
        texts=[EvaluationText(name="domain", documents=documents)],
        choices=[EvaluationChoices(name="questions", questions=questions)],
        budget=None,
        predicted=None,
        versions={},
        progress=NullProgress(),
    )
    shared: dict[str, Any] = {
        "model": str(folder / "model.onnx"), "execution_provider": "CPUExecutionProvider", "thread_count": 1,
        "prefill_chunk_tokens": workload.prefill_chunk_tokens,
    }  # fmt: skip
    text = measure_text(TextRequest(**shared, text=manifest.texts[0], path=str(folder / manifest.texts[0].path)))
    published = reference["text"]["general.valid.jsonl"]
    # Same windows; the last document's cut differs by a few tokens.
    assert text.bits_per_byte == pytest.approx(published["bits_per_byte"], rel=5e-3)
    accuracy = measure_accuracy(
        ChoiceRequest(
            **shared, context_tokens=256, choices=manifest.choices[0], path=str(folder / manifest.choices[0].path)
        )
    )
    expected = reference["choice"]["medicine.valid.jsonl"]
    assert accuracy.question_count == expected["n"]
    # The publisher put token 0 before each prompt (214 right of 332); without it torch gets 212 too.
    assert accuracy.accuracy == pytest.approx(expected["accuracy"], abs=2.5 / expected["n"])
