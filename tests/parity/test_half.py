"""Bundles that compute in float16. The CPU provider runs them too, so their numbers are tested without a GPU."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from msgspec.structs import replace

from edgeprune.errors import ExportError
from edgeprune.export.parity import HALF_TOLERANCE
from edgeprune.intake.load import LoadedModel, load_model
from edgeprune.schema.recipe import Recipe
from tests.parity.bundles import (
    all_edits,
    decoder_of,
    export,
    genai_tokens,
    mixed_edits,
    no_edits,
    relative_difference,
    repairs,
    tiny,
)
from tests.tiny_families import write_tiny

FLOAT, FLOAT16 = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16


@pytest.mark.parametrize("kernel", ["fp32", "fp16", "int4_b32_a0", "int8_b32_a4"])
@pytest.mark.parametrize(
    ("family", "edits"),
    [
        ("llama", all_edits),
        ("llama", repairs),
        ("qwen3", no_edits),
        ("gpt2", all_edits),
        ("gemma2, untied, biased, without caps", mixed_edits),
        ("gemma3", no_edits),
        ("opt", no_edits),
    ],
)
def test_a_bundle_in_half_computes_what_torch_does(
    family: str, edits: Callable[[LoadedModel, str], Recipe], kernel: str, tmp_path: Path
) -> None:
    is_plain = family in ("llama", "qwen3", "gpt2")
    loaded = tiny(tmp_path / "model", family) if is_plain else load_model(write_tiny(tmp_path / "model", family))
    exported = export(loaded, edits(loaded, kernel), tmp_path / "bundle", activation_bits=16)
    assert exported.manifest.activation_bits == 16
    if not kernel.endswith("a4"):
        assert relative_difference(exported) < HALF_TOLERANCE
    else:
        assert exported.manifest.parity.exact_logit_difference < HALF_TOLERANCE
    graph = onnx.load(tmp_path / "bundle" / "model.onnx", load_external_data=False).graph
    assert not [tensor.name for tensor in graph.initializer if tensor.data_type == FLOAT]
    types = {entry.name: entry.type.tensor_type.elem_type for entry in (*graph.input, *graph.output)}
    assert types.pop("logits") == FLOAT
    assert {kind for name, kind in types.items() if "key" in name or "value" in name} == {FLOAT16}
    # Nothing is widened on the way but the logits.
    casts = [node for node in graph.node if node.op_type == "Cast" and node.attribute[0].i == FLOAT]
    assert [node.output[0] for node in casts] == ["logits"]


def test_it_stores_and_caches_half_as_much_and_says_so(tmp_path: Path) -> None:
    loaded = tiny(tmp_path / "model", "llama")
    whole = export(loaded, no_edits(loaded), tmp_path / "whole")
    half = export(loaded, no_edits(loaded), tmp_path / "half", activation_bits=16)
    sizes = [(item.folder / "model.onnx.data").stat().st_size for item in (whole, half)]
    assert sizes[1] < 0.51 * sizes[0]
    assert half.manifest.spec.kv_bits == 16
    assert {site.kernel for block in half.manifest.spec.blocks for site in block.sites} == {"fp16"}
    assert decoder_of(half.folder).cache.size_bytes == decoder_of(whole.folder).cache.size_bytes // 2
    produced = genai_tokens(half)
    assert produced == list(half.manifest.parity.greedy_tokens)[: len(produced)]
    assert produced


def test_what_float16_cannot_hold_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    loaded = tiny(tmp_path / "model", "llama")
    with pytest.raises(ExportError, match="dynamic_int8, which computes in float32"):
        export(loaded, no_edits(loaded, "dynamic_int8"), tmp_path / "bundle", activation_bits=16)
    with pytest.raises(ExportError, match="cache of 8 bits is not exact"):
        export(loaded, replace(no_edits(loaded), kv_bits=8), tmp_path / "bundle", activation_bits=16)
    with torch.no_grad():
        loaded.model.get_parameter("model.layers.0.mlp.down_proj.weight")[0, 0] = 1e5
    with pytest.raises(ExportError, match="more than float16 can"):
        export(loaded, no_edits(loaded), tmp_path / "bundle", activation_bits=16)
    assert not (tmp_path / "bundle").exists()
