"""Sites in the pivot form: torch against onnxruntime and onnxruntime-genai, under every kind of kernel."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgeprune.intake.load import LoadedModel
from edgeprune.runtime.generate import greedy
from edgeprune.schema.recipe import KeepChannels, Recipe, SiteEdit
from tests.parity.bundles import CONTEXT, Exported, decoder_of, export, relative_difference, tiny


def pivot_edits(loaded: LoadedModel, kernel: str) -> Recipe:
    """Every site of the first and last block in the pivot form, above and below the rank where factors end to pay."""
    ranks = {"qkv": 50, "q": 50, "k": 20, "v": 9, "o": 40, "gate": 45, "up": 30, "down": 44}
    sites = tuple(
        SiteEdit(name=site.name, kernel=kernel)
        if block.index == 1
        else SiteEdit(name=site.name, kernel=kernel, rank=ranks[site.role], form="pivot")
        for block in loaded.spec.blocks
        for site in block.sites
    )
    return Recipe(
        model_hash=loaded.spec.model_hash,
        context_tokens=CONTEXT,
        keep_channels=(KeepChannels(block=0, kept_count=56),),
        table_kernel=kernel,
        sites=sites,
    )


@pytest.fixture(scope="module", params=["llama", "gpt2", "qwen3"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("bundle")
    loaded = tiny(folder / "model", request.param)
    return export(loaded, pivot_edits(loaded, "fp32"), folder / "bundle")


def test_logits_and_greedy_tokens_are_torchs(exported: Exported) -> None:
    assert relative_difference(exported) < 1e-5
    parity = exported.manifest.parity
    assert parity.greedy_matched_count == len(parity.greedy_tokens) == 32
    assert greedy(decoder_of(exported.folder), parity.greedy_prompt, 32) == list(parity.greedy_tokens)


def test_genai_continues_as_torch_does(exported: Exported) -> None:
    og = pytest.importorskip("onnxruntime_genai")
    parity = exported.manifest.parity
    parameters = og.GeneratorParams(og.Model(str(exported.folder)))
    parameters.set_search_options(max_length=CONTEXT)
    generator = og.Generator(og.Model(str(exported.folder)), parameters)
    generator.append_tokens(np.asarray(parity.greedy_prompt, dtype=np.int32))
    produced: list[int] = []
    while len(produced) < len(parity.greedy_tokens) and not generator.is_done():
        generator.generate_next_token()
        produced.append(int(generator.get_next_tokens()[0]))
    assert produced == list(parity.greedy_tokens)[: len(produced)]
    assert len(produced) == len(parity.greedy_tokens) or produced[-1] in exported.compressed.spec.eos_token_ids


def test_the_graph_stores_the_parts_and_nothing_else(exported: Exported) -> None:
    model = onnx.load(exported.folder / "model.onnx", load_external_data=False)
    shapes = {value.name: tuple(value.dims) for value in model.graph.initializer}
    down = exported.dense.spec.site("blocks.2.down")
    assert shapes["blocks.2.down.right.weight"] == (down.in_features, 44)
    assert shapes["blocks.2.down.left.weight"] == (44, 64 - 44)
    assert shapes["blocks.2.down.order"] == (64,)
    assert "blocks.2.up.order" not in shapes  # neurons stand in the order of the rows
    stored = (Path(exported.folder) / "model.onnx.data").stat().st_size
    assert stored < 4 * exported.compressed.spec.parameter_count + 25_000
    assert exported.compressed.spec.parameter_count < exported.dense.spec.parameter_count


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "qwen3"])
@pytest.mark.parametrize("kernel", ["int8_b32_a0", "int4_b32_a0"])
def test_rounded_parts_give_torchs_logits(model_type: str, kernel: str, tmp_path: Path) -> None:
    loaded = tiny(tmp_path / "model", model_type)
    exported = export(loaded, pivot_edits(loaded, kernel), tmp_path / "bundle")
    assert relative_difference(exported) < 1e-5
    assert exported.manifest.parity.greedy_matched_count == 32


@pytest.mark.parametrize("kernel", ["int8_b32_a4", "int4_b32_a4", "dynamic_int8", "fp16"])
def test_kernels_that_round_activations_or_widen_weights_take_the_form_too(kernel: str, tmp_path: Path) -> None:
    loaded = tiny(tmp_path / "model", "llama")
    exported = export(loaded, pivot_edits(loaded, kernel), tmp_path / "bundle")
    parity = exported.manifest.parity
    found = parity.exact_logit_difference if kernel != "fp16" else relative_difference(exported)
    assert found is not None
    assert found < 1e-5
