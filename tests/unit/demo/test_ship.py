import json
import math
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace

from edgeprune.demo.paths import demo_choice_path, demo_device_path, demo_model_path
from edgeprune.demo.ship import QUESTION_GROUPS, document_bits_per_byte, question_groups
from edgeprune.errors import CalibrationError
from edgeprune.intake.load import load_model
from edgeprune.intake.spec import read_spec
from edgeprune.pipeline.demo import read_demo
from edgeprune.search.baselines import PLAIN_INT4, plain_recipe
from edgeprune.shapes import edit_shapes
from edgeprune.validate.bundle import open_bundle
from tests.tiny import TINY_TEXT, write_tiny_llama


def test_shipped_device_data_belongs_to_the_shipped_model() -> None:
    data, spec = read_demo(demo_device_path()), read_spec(demo_model_path())
    hashes = {data.manifest.model_hash, data.spec.model_hash, data.scores.model_hash, spec.model_hash}
    assert len(hashes) == 1, "run python -m edgeprune.demo.ship: the model was trained again"
    assert data.spec.name == "demo"


def test_the_manifest_vouches_for_every_shipped_file() -> None:
    folder = demo_device_path()
    listed = {entry.path for entry in read_demo(folder).manifest.files}
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found - listed == {"demo.json"}
    assert listed <= found


def test_the_shipped_bundle_is_plain_int4_with_both_kinds_of_questions() -> None:
    data = read_demo(demo_device_path())
    bundle = open_bundle(data.bundle)
    plain = plain_recipe(data.spec, PLAIN_INT4, context_tokens=data.manifest.context_tokens, seed=data.manifest.seed)
    assert bundle.manifest.recipe == replace(plain, rounding=data.scores.rounding)
    assert bundle.manifest.spec.parameter_count == edit_shapes(data.spec, bundle.manifest.recipe).parameter_count
    assert bundle.disk_bytes < data.spec.source_bytes / 2
    assert [choices.name for choices in bundle.manifest.choices] == list(QUESTION_GROUPS)
    assert [text.name for text in bundle.manifest.texts] == ["domain", "general"]
    # Torch's own figures are there, so that a device can tell whether it computes the same.
    assert all(text.reference_loss_nats is not None for text in bundle.manifest.texts)
    assert all(text.dense_bits_per_byte is not None for text in bundle.manifest.texts)
    assert all(choices.reference_accuracy is not None for choices in bundle.manifest.choices)
    assert set(data.manifest.dense_accuracy) == set(QUESTION_GROUPS)
    assert set(data.manifest.dense_bits_per_byte) == {"domain", "general"}


def test_nothing_shipped_names_a_folder_of_the_machine_that_made_it() -> None:
    for path in demo_device_path().rglob("*.json"):
        assert str(Path.home()) + "/" not in path.read_text(encoding="utf-8"), path
        assert str(demo_model_path().parents[3]) not in path.read_text(encoding="utf-8"), path


def test_question_groups_keep_order_and_leave_others_out(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    rows = [("rare", 1), ("frequent", 0), ("middle", 2), ("rare", 3)]
    lines = [
        json.dumps({"prompt": f"{number}?", "choices": [" a", " b", " c", " d"], "answer": answer, "group": group})
        for number, (group, answer) in enumerate(rows)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = question_groups(path)
    assert {name: [question.prompt for question in questions] for name, questions in found.items()} == {
        "frequent": ["1?"],
        "rare": ["0?", "3?"],
    }
    assert [question.answer for question in found["rare"]] == [1, 3]


def test_question_groups_refuse_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text(demo_choice_path("law").read_text(encoding="utf-8").splitlines()[0][:-1].replace("answer", "reply"))
    with pytest.raises((CalibrationError, json.JSONDecodeError)):
        question_groups(path)


def test_a_uniform_model_needs_the_logarithm_of_its_vocabulary_for_each_token(tmp_path: Path) -> None:
    loaded = load_model(write_tiny_llama(tmp_path / "model"))
    with torch.no_grad():
        loaded.adapter.head(loaded.model).weight.zero_()
    document = TINY_TEXT.strip()
    encoding = loaded.tokenizer.encode(document, add_special_tokens=False)
    first_bytes = sum(len(encoding.tokens[start]) for start in range(0, len(encoding.ids), 16))
    scored_tokens = len(encoding.ids) - math.ceil(len(encoding.ids) / 16)
    expected = scored_tokens * math.log2(512) / (len(document.encode()) - first_bytes)
    assert document_bits_per_byte(loaded, [document], window_tokens=16) == pytest.approx(expected)
