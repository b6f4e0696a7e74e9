"""Sites that share a right factor: torch against onnxruntime and genai, and how few products they are."""

from pathlib import Path

import onnx
import pytest

from edgeprune.intake.load import LoadedModel
from edgeprune.predict.structure import site_parts
from edgeprune.runtime.generate import greedy
from edgeprune.schema.model import SiteForm
from edgeprune.schema.recipe import Recipe, SiteEdit
from tests.parity.bundles import CONTEXT, Exported, decoder_of, export, genai_tokens, relative_difference, tiny

SHARED = ("k", "v", "up")
RANKS = {"q": 24, "k": 24, "v": 24, "gate": 30, "up": 30, "o": 16, "down": 20}


def shared_edits(loaded: LoadedModel, kernel: str) -> Recipe:
    """Every site factored; in block 0 all that may share do, in block 1 value takes key's factor, in 2 none does."""
    sites = []
    for block in loaded.spec.blocks:
        for site in block.sites:
            rank = RANKS[site.role] - (1 if block.index == 1 and site.role == "q" else 0)
            shares = (site.role in SHARED and block.index == 0) or (block.index, site.role) == (1, "v")
            form: SiteForm = "shared" if shares else "factors"
            sites.append(SiteEdit(name=site.name, kernel=kernel, rank=rank, form=form))
    return Recipe(model_hash=loaded.spec.model_hash, context_tokens=CONTEXT, table_kernel=kernel, sites=tuple(sites))


def _weights(exported: Exported, block: int) -> set[str]:
    graph = onnx.load(exported.folder / "model.onnx", load_external_data=False).graph
    names = {tensor.name for tensor in graph.initializer if tensor.name.startswith(f"blocks.{block}.")}
    return {name.rpartition(".")[0] for name in names if ".left." in name or ".right." in name}


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "qwen3"])
def test_logits_and_greedy_tokens_are_torchs(model_type: str, tmp_path: Path) -> None:
    loaded = tiny(tmp_path / "model", model_type)
    exported = export(loaded, shared_edits(loaded, "fp32"), tmp_path / "bundle")
    assert relative_difference(exported) < 1e-5
    parity = exported.manifest.parity
    assert parity.greedy_matched_count == len(parity.greedy_tokens) == 32
    assert greedy(decoder_of(exported.folder), parity.greedy_prompt, 32) == list(parity.greedy_tokens)


@pytest.mark.parametrize("kernel", ["int8_b32_a0", "int4_b32_a0"])
def test_rounded_factors_give_torchs_logits(kernel: str, tmp_path: Path) -> None:
    loaded = tiny(tmp_path / "model", "llama")
    exported = export(loaded, shared_edits(loaded, kernel), tmp_path / "bundle")
    assert relative_difference(exported) < 1e-5
    assert genai_tokens(exported) == list(exported.manifest.parity.greedy_tokens)


@pytest.mark.parametrize("kernel", ["int4_b32_a4", "dynamic_int8", "fp16"])
def test_other_kernels_take_the_form_too(kernel: str, tmp_path: Path) -> None:
    loaded = tiny(tmp_path / "model", "llama")
    exported = export(loaded, shared_edits(loaded, kernel), tmp_path / "bundle")
    parity = exported.manifest.parity
    found = parity.exact_logit_difference if kernel != "fp16" else relative_difference(exported)
    assert found is not None
    assert found < 1e-5


def test_the_graph_holds_one_right_factor_and_as_few_products(tmp_path: Path) -> None:
    loaded = tiny(tmp_path / "model", "llama")
    floats = export(loaded, shared_edits(loaded, "fp32"), tmp_path / "floats")
    assert _weights(floats, 0) == {
        "blocks.0.qkv.right", "blocks.0.qkv.left", "blocks.0.gateup.right", "blocks.0.gate.left", "blocks.0.up.left",
        "blocks.0.o.right", "blocks.0.o.left", "blocks.0.down.right", "blocks.0.down.left",
    }  # fmt: skip
    # Key's factor, which value takes, stands in one product with the query's.
    assert "blocks.1.qkv.right" in _weights(floats, 1)
    integers = export(loaded, shared_edits(loaded, "int4_b32_a0"), tmp_path / "integers")
    assert {"blocks.0.gateup.right", "blocks.0.gateup.left"} <= _weights(integers, 0)
    assert "blocks.0.gate.left" not in _weights(integers, 0)
    assert site_parts("fp32", floats.compressed.spec.site("blocks.0.k")).matrix_nodes == 1


def test_the_bundle_is_as_small_as_its_parameters(tmp_path: Path) -> None:
    loaded = tiny(tmp_path / "model", "llama")
    exported = export(loaded, shared_edits(loaded, "fp32"), tmp_path / "bundle")
    stored = (exported.folder / "model.onnx.data").stat().st_size
    assert stored < 4 * exported.compressed.spec.parameter_count + 25_000
