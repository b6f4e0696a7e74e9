"""Candidates are read by their headers and searched in the form that was asked for."""

from pathlib import Path

from edgeprune.pipeline.choose_candidates import read_models
from edgeprune.schema.choice import ChoiceRequest
from tests.tiny import TINY_TEXT, write_tiny_llama


def test_every_candidate_is_searched_in_the_form_asked_for(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(TINY_TEXT, encoding="utf-8")
    folders = [write_tiny_llama(tmp_path / name, seed=seed) for seed, name in enumerate(("one", "two"))]
    request = ChoiceRequest(
        models=tuple(map(str, folders)), domain=(str(text),), kv_bits=8, rounding="nearest", uniform_kv=True
    )
    refused, models = read_models(request, tmp_path / "out")
    assert refused == []
    for model in models:
        assert model.spec.kv_bits == 8
        assert (model.request.kv_bits, model.request.rounding, model.request.uniform_kv) == (8, "nearest", True)
    plain = read_models(ChoiceRequest(models=(str(folders[0]),), domain=(str(text),)), tmp_path / "out")[1][0]
    assert (plain.spec.kv_bits, plain.request.kv_bits, plain.request.rounding) == (32, 32, "gptq")
