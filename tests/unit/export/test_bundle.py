"""Whole bundles of tiny models: what is in the folder, what is refused, and that nothing half-made is left."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from msgspec.structs import replace as edited

from edgeprune.artifacts import hash_file, read_record
from edgeprune.errors import Cancelled, ExportError, ParityError
from edgeprune.export.bundle import export_bundle
from edgeprune.export.evaluation import EvaluationText
from edgeprune.intake.load import LoadedModel, load_model
from edgeprune.schema.budget import Workload
from edgeprune.schema.bundle import BundleManifest
from edgeprune.schema.events import Event, NullProgress, Progress
from edgeprune.schema.recipe import Recipe
from tests.tiny import TINY_TEXT, write_tiny_gpt2, write_tiny_llama

WORKLOAD = Workload(context_tokens=32, thread_count=1)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_model(write_tiny_llama(tmp_path_factory.mktemp("model") / "tiny"))


def _export(loaded: LoadedModel, folder: Path, *, progress: Progress | None = None, **changes: Any) -> BundleManifest:
    arguments: dict[str, Any] = {
        "folder": folder,
        "label": "dense",
        "workload": WORKLOAD,
        "texts": [EvaluationText(name="domain", documents=[TINY_TEXT])],
        "choices": [],
        "budget": None,
        "predicted": None,
        "versions": {"edgeprune": "0"},
        "progress": progress or NullProgress(),
    }
    recipe = Recipe(model_hash=loaded.spec.model_hash, context_tokens=32)
    return export_bundle(loaded, recipe, **(arguments | changes))


class _Listener(NullProgress):
    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)


def test_the_manifest_lists_every_file_with_its_hash(loaded: LoadedModel, tmp_path: Path) -> None:
    manifest = _export(loaded, tmp_path / "bundle")
    files = {path.relative_to(tmp_path / "bundle").as_posix() for path in (tmp_path / "bundle").rglob("*.*")}
    assert {entry.path for entry in manifest.files} | {"edgeprune.json"} == files
    for entry in manifest.files:
        path = tmp_path / "bundle" / entry.path
        assert (entry.size_bytes, entry.sha256) == (path.stat().st_size, hash_file(path))
    assert read_record(tmp_path / "bundle" / "edgeprune.json", BundleManifest) == manifest
    assert "exact-model.onnx" not in files


def test_the_same_model_gives_the_same_bytes(loaded: LoadedModel, tmp_path: Path) -> None:
    first, second = (_export(loaded, tmp_path / name) for name in ("a", "b"))
    assert msgspec.json.encode(first.files) == msgspec.json.encode(second.files)


def test_no_path_of_this_machine_is_written(loaded: LoadedModel, tmp_path: Path) -> None:
    _export(loaded, tmp_path / "bundle")
    for path in (tmp_path / "bundle").rglob("*.*"):
        assert str(tmp_path).encode() not in path.read_bytes(), path
        assert str(loaded.folder.parent).encode() not in path.read_bytes(), path


def test_a_wrong_weight_is_noticed_and_nothing_is_left(loaded: LoadedModel, tmp_path: Path, monkeypatch: Any) -> None:
    from edgeprune.export import bundle

    def write_wrongly(graph: Any, folder: Path) -> None:
        write_model(graph, folder)
        data = bytearray((folder / "model.onnx.data").read_bytes())
        place = 4 * 64 * 512 + 4096
        data[place : place + 4096] = bytes(4096)
        (folder / "model.onnx.data").write_bytes(data)

    write_model = bundle.write_model
    monkeypatch.setattr(bundle, "write_model", write_wrongly)
    with pytest.raises(ParityError, match=r"logits differ from torch's by .* allowed are 3e-04"):
        _export(loaded, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_bundle_survives_a_failure(loaded: LoadedModel, tmp_path: Path) -> None:
    _export(loaded, tmp_path / "bundle")
    before = hash_file(tmp_path / "bundle" / "edgeprune.json")

    class _Impatient(NullProgress):
        def raise_if_cancelled(self) -> None:
            raise Cancelled("Interrupted.")

    with pytest.raises(Cancelled):
        _export(loaded, tmp_path / "bundle", progress=_Impatient())
    assert hash_file(tmp_path / "bundle" / "edgeprune.json") == before
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_model_that_was_not_rounded_to_its_kernel_is_refused(loaded: LoadedModel, tmp_path: Path) -> None:
    spec = edited(loaded.spec, table_kernel="int8_b32_a0")
    with pytest.raises(ExportError, match="the embedding table is not rounded to int8_b32_a0"):
        _export(replace(loaded, spec=spec), tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_a_family_without_a_graph_is_refused(loaded: LoadedModel, tmp_path: Path) -> None:
    spec = edited(loaded.spec, model_type="retnet")
    with pytest.raises(ExportError, match="no graph layout for model type 'retnet'; known are gpt2, llama"):
        _export(replace(loaded, spec=spec), tmp_path / "bundle")


def test_more_context_than_learned_positions_is_refused(tmp_path: Path) -> None:
    loaded = load_model(write_tiny_gpt2(tmp_path / "tiny", n_positions=64))
    with pytest.raises(ExportError, match="has 64 positions, fewer than the context of 100"):
        _export(loaded, tmp_path / "bundle", workload=Workload(context_tokens=100, thread_count=1))


def test_tables_are_cut_to_the_context(loaded: LoadedModel, tmp_path: Path) -> None:
    short = _export(loaded, tmp_path / "short")
    long = _export(loaded, tmp_path / "long", workload=Workload(context_tokens=96, thread_count=1))
    sizes = [
        next(entry.size_bytes for entry in manifest.files if entry.path == "model.onnx.data")
        for manifest in (short, long)
    ]
    # Cosines and sines, 8 rotated pairs, float32; 32 rows of each are small enough to stay in the graph file.
    assert sizes[1] - sizes[0] in (2 * 64 * 8 * 4, 2 * 96 * 8 * 4)


def test_without_texts_parity_uses_random_tokens(loaded: LoadedModel, tmp_path: Path) -> None:
    manifest = _export(loaded, tmp_path / "bundle", texts=[])
    assert manifest.texts == ()
    assert manifest.parity.max_logit_difference < 1e-5


def test_a_missing_licence_is_told_and_a_present_one_copied(loaded: LoadedModel, tmp_path: Path) -> None:
    listener = _Listener()
    _export(loaded, tmp_path / "bundle", progress=listener)
    assert any(event.kind == "noted" and "without a licence" in event.message for event in listener.events)
    assert "Licence unknown" in (tmp_path / "bundle" / "README.md").read_text(encoding="utf-8")

    folder = write_tiny_llama(tmp_path / "licensed")
    (folder / "LICENSE").write_text("Do as you please.")
    licensed = load_model(folder)
    listener = _Listener()
    _export(replace(licensed, spec=edited(licensed.spec, license="mit")), tmp_path / "second", progress=listener)
    assert (tmp_path / "second" / "LICENSE").read_text() == "Do as you please."
    assert 'license: "mit"' in (tmp_path / "second" / "README.md").read_text(encoding="utf-8")
    assert not any(event.kind == "noted" for event in listener.events)


def test_genai_is_told_the_context_and_the_cache(loaded: LoadedModel, tmp_path: Path) -> None:
    _export(loaded, tmp_path / "bundle")
    config = json.loads((tmp_path / "bundle" / "genai_config.json").read_text())
    assert config["model"]["type"] == "decoder"
    assert config["model"]["context_length"] == config["search"]["max_length"] == 32
    assert config["search"]["do_sample"] is False
    decoder = config["model"]["decoder"]
    assert (decoder["num_hidden_layers"], decoder["num_key_value_heads"], decoder["head_size"]) == (3, 2, 16)
    assert "position_ids" not in decoder["inputs"]


def test_gpt2_asks_for_positions(tmp_path: Path) -> None:
    _export(load_model(write_tiny_gpt2(tmp_path / "tiny")), tmp_path / "bundle")
    config = json.loads((tmp_path / "bundle" / "genai_config.json").read_text())
    assert config["model"]["decoder"]["inputs"]["position_ids"] == "position_ids"
    assert config["model"]["type"] == "decoder"


def test_inputs_and_outputs_have_the_names_of_the_ecosystem(loaded: LoadedModel, tmp_path: Path) -> None:
    import onnxruntime

    _export(loaded, tmp_path / "bundle")
    session = onnxruntime.InferenceSession(tmp_path / "bundle" / "model.onnx")
    inputs = {entry.name: entry.shape for entry in session.get_inputs()}
    assert inputs["input_ids"] == ["batch_size", "sequence_length"]
    assert inputs["attention_mask"] == ["batch_size", "total_sequence_length"]
    assert inputs["past_key_values.2.value"] == ["batch_size", 2, "past_sequence_length", 16]
    outputs = {entry.name: entry.shape for entry in session.get_outputs()}
    assert outputs["logits"] == ["batch_size", "sequence_length", 512]
    assert outputs["present.2.key"] == ["batch_size", 2, "total_sequence_length", 16]


def test_the_torch_model_is_left_as_it_was(loaded: LoadedModel, tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    _export(loaded, tmp_path / "bundle")
    assert all(torch.equal(tensor, before[name]) for name, tensor in loaded.model.state_dict().items())


def test_the_licence_comes_from_the_base_model_where_the_model_lies_elsewhere(
    loaded: LoadedModel, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "LICENSE.txt").write_text("Do as you please.")
    _export(loaded, tmp_path / "bundle", base=base)
    assert (tmp_path / "bundle" / "LICENSE.txt").read_text() == "Do as you please."
