"""Sites and right factors of one input as one product where they are alike; graphs that give the last logits alone."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from msgspec.structs import replace

from edgeprune.calibrate.capture import capture
from edgeprune.compress.apply import compress_model
from edgeprune.export.exact import exact_graph
from edgeprune.export.graph import build_graph
from edgeprune.export.weights import GRAPH_FILE, write_model
from edgeprune.intake.load import LoadedModel, load_model
from edgeprune.runtime.decode import Decoder
from edgeprune.runtime.session import open_session
from edgeprune.schema.events import NullProgress
from edgeprune.schema.model import SiteForm
from edgeprune.schema.recipe import Recipe
from tests.parity.bundles import CONTEXT, all_edits, export, genai_tokens, no_edits, relative_difference, tiny
from tests.tiny_families import write_tiny

TOKENS = list(range(7, 39))


def _written(loaded: LoadedModel, recipe: Recipe, folder: Path, *, last_logits: bool = False) -> LoadedModel:
    stats = capture(loaded, torch.zeros(1, 8, dtype=torch.int32), gradient_tokens=0)
    compressed = compress_model(loaded, recipe, stats, progress=NullProgress())
    folder.mkdir()
    write_model(build_graph(compressed, context_tokens=CONTEXT, last_logits=last_logits), folder)
    return compressed


def _decoder(path: Path) -> Decoder:
    session = open_session(path, thread_count=1)
    return Decoder(session, max_tokens=CONTEXT, prefill_chunk_tokens=CONTEXT)


def _is_packed(folder: Path) -> list[bool]:
    """Of each block's attention: whether query, key and value come in one input."""
    graph = onnx.load(folder / "model.onnx", load_external_data=False).graph
    return [not any(node.input[1:3]) for node in graph.node if node.op_type == "GroupQueryAttention"]


def _weights(folder: Path) -> set[str]:
    """Attention's inputs and gate and up that the graph has weights of, of blocks 0 and 1."""
    graph = onnx.load(folder / "model.onnx", load_external_data=False).graph
    names = {tensor.name.rpartition(".")[0] for tensor in graph.initializer}
    sites = ("q", "k", "v", "qkv", "gate", "up", "gateup")
    return {name for name in names if name.rpartition(".")[2] in sites and name[7] in "01"}


@pytest.mark.parametrize("kernel", ["fp32", "fp16", "int4_b32_a0", "int8_b32_a0", "dynamic_int8"])
@pytest.mark.parametrize("model_type", ["llama", "qwen2"])
def test_alike_sites_are_one_product_and_compute_the_same(model_type: str, kernel: str, tmp_path: Path) -> None:
    loaded = tiny(tmp_path / "model", model_type)
    recipe = no_edits(loaded, kernel)
    # In block 1 value and up have another kernel, so all stay apart.
    apart = "int8_b32_a0" if kernel != "int8_b32_a0" else "int4_b32_a0"
    unlike = ("blocks.1.v", "blocks.1.up")
    sites = tuple(replace(edit, kernel=apart) if edit.name in unlike else edit for edit in recipe.sites)
    compressed = _written(loaded, replace(recipe, sites=sites), tmp_path / "graph")
    assert _is_packed(tmp_path / "graph") == [True, False, True]
    # Gate and up are put together under kernels of integers alone.
    gated = {"blocks.0.gate", "blocks.0.up"} if kernel in ("fp32", "fp16") else {"blocks.0.gateup"}
    apart_sites = {f"blocks.1.{role}" for role in ("q", "k", "v", "gate", "up")}
    assert _weights(tmp_path / "graph") == {"blocks.0.qkv", *gated, *apart_sites}
    # Torch does not round the inputs of a product as dynamic_int8 does.
    with exact_graph(tmp_path / "graph") as path:
        logits = np.concatenate([*_decoder(path).logits(TOKENS)])
    with torch.no_grad():
        wanted = compressed.model(torch.tensor([TOKENS])).logits[0].numpy()
    assert np.abs(logits - wanted).max() < 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("kernel", ["fp32", "int4_b32_a0", "dynamic_int8"])
@pytest.mark.parametrize("model_type", ["llama", "qwen3", "gemma2, untied, biased, without caps"])
def test_right_factors_of_one_input_are_one_product_and_compute_the_same(
    model_type: str, kernel: str, tmp_path: Path
) -> None:
    is_wired = "," in model_type
    folder = tmp_path / "model"
    loaded = load_model(write_tiny(folder, model_type)) if is_wired else tiny(folder, model_type)
    # Block 0: all are factors, two of them in the pivot form. Block 1: v is whole, and gate has another kernel than up.
    apart = "int8_b32_a0" if kernel != "int8_b32_a0" else "int4_b32_a0"
    ranks = {"q": 24, "k": 6, "v": 8, "gate": 16, "up": 10}
    edits = {edit.name: edit for edit in no_edits(loaded, kernel).sites}
    for role, rank in ranks.items():
        form: SiteForm = "pivot" if role in ("k", "up") else "factors"
        edits[f"blocks.0.{role}"] = replace(edits[f"blocks.0.{role}"], rank=rank, form=form)
        if role != "v":
            edits[f"blocks.1.{role}"] = replace(edits[f"blocks.1.{role}"], rank=rank)
    edits["blocks.1.gate"] = replace(edits["blocks.1.gate"], kernel=apart)
    recipe = replace(no_edits(loaded, kernel), sites=tuple(edits.values()), technique=None)
    compressed = _written(loaded, recipe, tmp_path / "graph")
    graph = onnx.load(tmp_path / "graph" / "model.onnx", load_external_data=False).graph
    rights = {tensor.name.rpartition(".")[0] for tensor in graph.initializer if ".right." in tensor.name}
    assert {name for name in rights if name[7] in "01"} == {
        "blocks.0.qkv.right", "blocks.0.gateup.right", "blocks.1.qk.right", "blocks.1.gate.right", "blocks.1.up.right",
    }  # fmt: skip
    with exact_graph(tmp_path / "graph") as path:
        logits = np.concatenate([*_decoder(path).logits(TOKENS)])
    with torch.no_grad():
        wanted = compressed.model(torch.tensor([TOKENS])).logits[0].numpy()
    assert np.abs(logits - wanted).max() < 1e-5 * np.abs(wanted).max()


def test_norms_on_queries_keep_the_sites_apart(tmp_path: Path) -> None:
    loaded = tiny(tmp_path / "model", "qwen3")
    _written(loaded, no_edits(loaded), tmp_path / "graph")
    assert not any(_is_packed(tmp_path / "graph"))


@pytest.mark.parametrize("model_type", ["llama", "gpt2"])
def test_the_last_logits_alone_are_those_of_all(model_type: str, tmp_path: Path) -> None:
    loaded = tiny(tmp_path / "model", model_type)
    _written(loaded, no_edits(loaded), tmp_path / "all")
    _written(loaded, no_edits(loaded), tmp_path / "last", last_logits=True)
    whole, last = (_decoder(tmp_path / name / GRAPH_FILE) for name in ("all", "last"))
    assert (whole.is_last_only, last.is_last_only) == (False, True)
    np.testing.assert_array_equal(last.prefill(TOKENS), whole.prefill(TOKENS))
    np.testing.assert_array_equal(last.step(5), whole.step(5))


def test_a_bundle_of_last_logits_is_checked_and_generates_the_same(tmp_path: Path) -> None:
    loaded = tiny(tmp_path / "model", "llama")
    exported = export(loaded, all_edits(loaded), tmp_path / "bundle", last_logits=True)
    assert relative_difference(exported) < 1e-5
    parity = exported.manifest.parity
    assert parity.greedy_matched_count == len(parity.greedy_tokens)
    produced = genai_tokens(exported)
    assert produced == list(parity.greedy_tokens)[: len(produced)]
    assert produced
