"""Few values a head: torch against onnxruntime and genai."""

from pathlib import Path

import onnx
import pytest

from edgeprune.intake.load import LoadedModel
from edgeprune.predict.structure import site_parts
from edgeprune.runtime.generate import greedy
from edgeprune.schema.model import site_name
from edgeprune.schema.recipe import Recipe, SiteEdit
from tests.parity.bundles import CONTEXT, decoder_of, export, genai_tokens, relative_difference, tiny


def few_values(loaded: LoadedModel, kernel: str) -> Recipe:
    """Other numbers of values in every block, the last one whole."""
    sites = []
    for block in loaded.spec.blocks:
        kept = block.head_dim - 3 * (block.index + 1)
        few = {"v": (kept * block.num_kv_heads, "head_rows"), "o": (kept * block.num_heads, "head_columns")}
        for site in block.sites:
            rank, form = (None, "factors") if block.index == 2 else few.get(site.role, (None, "factors"))
            sites.append(SiteEdit(name=site_name(block.index, site.role), kernel=kernel, rank=rank, form=form))  # type: ignore[arg-type]
    return Recipe(model_hash=loaded.spec.model_hash, context_tokens=CONTEXT, table_kernel=kernel, sites=tuple(sites))


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "qwen3"])
def test_logits_and_greedy_tokens_are_torchs(model_type: str, tmp_path: Path) -> None:
    loaded = tiny(tmp_path / "model", model_type)
    exported = export(loaded, few_values(loaded, "fp32"), tmp_path / "bundle")
    assert relative_difference(exported) < 1e-5
    parity = exported.manifest.parity
    assert parity.greedy_matched_count == len(parity.greedy_tokens) == 32
    assert greedy(decoder_of(exported.folder), parity.greedy_prompt, 32) == list(parity.greedy_tokens)


@pytest.mark.parametrize("kernel", ["int8_b32_a0", "int4_b32_a0"])
def test_rounded_matrices_give_torchs_logits(kernel: str, tmp_path: Path) -> None:
    loaded = tiny(tmp_path / "model", "llama")
    exported = export(loaded, few_values(loaded, kernel), tmp_path / "bundle")
    assert relative_difference(exported) < 1e-5
    assert genai_tokens(exported) == list(exported.manifest.parity.greedy_tokens)


def test_the_graph_has_the_nodes_that_are_predicted_and_no_tensor_more(tmp_path: Path) -> None:
    loaded = tiny(tmp_path / "model", "llama")
    exported = export(loaded, few_values(loaded, "fp32"), tmp_path / "bundle")
    graph = onnx.load(exported.folder / "model.onnx", load_external_data=False).graph
    kinds = [node.op_type for node in graph.node if node.op_type in ("Pad", "Slice")]
    assert sorted(kinds) == ["Pad", "Pad", "Slice", "Slice"]
    spec = exported.compressed.spec
    for name in ("blocks.0.v", "blocks.1.o"):
        site = spec.site(name)
        assert site_parts("fp32", site).other_nodes == 3
        assert [list(each.dims) for each in graph.initializer if each.name.startswith(f"{name}.")] == [
            [site.in_features, site.rank] if site.role == "v" else [site.rank, site.out_features]
        ]
