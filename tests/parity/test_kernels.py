"""Torch of the rounded model against the bundle: every kernel, tied and untied tables, whole and factored sites."""

from pathlib import Path

import onnx
import pytest
import torch
from msgspec.structs import replace

from edgeprune.calibrate.capture import capture
from edgeprune.compress.apply import compress_model
from edgeprune.schema.events import NullProgress
from edgeprune.schema.kernel import stored_bytes
from tests.parity.bundles import Exported, all_edits, export, no_edits, relative_difference, tiny

# Share of the largest logit. Kernels with float32 activations differ by the order of sums alone; those that round
# activations are compared without that rounding too (`exact_logit_difference`).
EXACT = ("fp16", "int8_b32_a0", "int4_b32_a0", "int4_b128_a0", "int4_b16_a1")
ROUNDED = ("int8_b32_a4", "int4_b32_a4", "int4_b64_a4", "dynamic_int8")


def _export(
    folder: Path, kernel: str, *, model_type: str = "llama", is_tied: bool = True, edited: bool = True
) -> Exported:
    loaded = tiny(folder / "model", model_type, tie_word_embeddings=is_tied)
    return export(loaded, (all_edits if edited else no_edits)(loaded, kernel), folder / "bundle")


@pytest.mark.parametrize("kernel", EXACT)
@pytest.mark.parametrize("is_tied", [True, False], ids=["tied", "untied"])
def test_float_activations_give_torchs_logits(kernel: str, is_tied: bool, tmp_path: Path) -> None:
    exported = _export(tmp_path, kernel, is_tied=is_tied)
    assert relative_difference(exported) < 1e-5
    assert exported.manifest.parity.greedy_matched_count == 32


@pytest.mark.parametrize("kernel", ROUNDED)
@pytest.mark.parametrize("model_type", ["llama", "gpt2"])
def test_rounded_activations_hide_no_wrong_weight(kernel: str, model_type: str, tmp_path: Path) -> None:
    exported = _export(tmp_path, kernel, model_type=model_type)
    exact = exported.manifest.parity.exact_logit_difference
    assert exact is not None
    assert exact < 1e-5 < 1e-4 < exported.manifest.parity.max_logit_difference < exported.manifest.parity.tolerance


@pytest.mark.parametrize("kernel", ["int4_b32_a0", "int8_b32_a0", "int4_b32_a4", "dynamic_int8"])
@pytest.mark.parametrize("model_type", ["llama", "gpt2"])
def test_integers_chosen_by_gptq_are_the_bundles(kernel: str, model_type: str, tmp_path: Path) -> None:
    loaded = tiny(tmp_path / "model", model_type)
    exported = export(loaded, replace(all_edits(loaded, kernel), rounding="gptq"), tmp_path / "bundle")
    parity = exported.manifest.parity
    difference = parity.exact_logit_difference
    assert (parity.max_logit_difference if difference is None else difference) < 1e-5


def test_gptq_comes_nearer_to_the_dense_model(tmp_path: Path) -> None:
    loaded = tiny(tmp_path / "model", "llama")
    windows = torch.randint(0, 512, (16, 32), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    stats = capture(loaded, windows, gradient_tokens=0)
    errors = {}
    with torch.inference_mode():
        expected = loaded.model(windows.long(), use_cache=False).logits
        for rounding in ("nearest", "gptq"):
            recipe = replace(no_edits(loaded, "int4_b32_a0"), table_kernel="fp32", rounding=rounding)
            rounded = compress_model(loaded, recipe, stats, progress=NullProgress())
            errors[rounding] = float((rounded.model(windows.long(), use_cache=False).logits - expected).square().mean())
    # The inputs of a random model on random tokens hardly go together; on trained ones two thirds of the loss go.
    assert errors["gptq"] < 0.92 * errors["nearest"]


def test_a_kernel_may_differ_from_site_to_site(tmp_path: Path) -> None:
    loaded = tiny(tmp_path / "model", "llama")
    recipe = all_edits(loaded, "int4_b32_a0")
    cycle = ("fp32", "int8_b64_a0", "int4_b16_a0", "fp16")
    sites = tuple(replace(site, kernel=cycle[number % 4]) for number, site in enumerate(recipe.sites))
    exported = export(loaded, replace(recipe, sites=sites), tmp_path / "bundle")
    assert relative_difference(exported) < 1e-5


@pytest.mark.parametrize("hidden_size", [64, 72])
@pytest.mark.parametrize("kernel", ["int4_b64_a0", "int8_b32_a0"])
def test_widths_that_no_block_divides(hidden_size: int, kernel: str, tmp_path: Path) -> None:
    loaded = tiny(tmp_path / "model", "llama", hidden_size=hidden_size, intermediate_size=100)
    exported = export(loaded, no_edits(loaded, kernel), tmp_path / "bundle")
    assert relative_difference(exported) < 1e-5


@pytest.mark.parametrize("kernel", ["fp32", "fp16", "int8_b32_a0", "int4_b32_a0"])
def test_a_tied_table_is_on_disk_once(kernel: str, tmp_path: Path) -> None:
    tied = _export(tmp_path / "tied", kernel, edited=False)
    untied = _export(tmp_path / "untied", kernel, is_tied=False, edited=False)
    table = stored_bytes(kernel, in_features=64, out_features=512)
    size = (tied.folder / "model.onnx.data").stat().st_size
    assert (untied.folder / "model.onnx.data").stat().st_size - size == table
    # And both readers name the same bytes.
    graph = onnx.load(tied.folder / "model.onnx", load_external_data=False).graph
    places = {
        tensor.name: {entry.key: entry.value for entry in tensor.external_data}
        for tensor in graph.initializer
        if tensor.name.startswith(("embedding.", "head."))
    }
    for name, place in places.items():
        if name.startswith("embedding."):
            assert places[name.replace("embedding", "head")] == place


def test_plain_kernels_shrink_the_bundle(tmp_path: Path) -> None:
    sizes = [
        (_export(tmp_path / kernel, kernel, edited=False).folder / "model.onnx.data").stat().st_size
        for kernel in ("fp32", "fp16", "int8_b32_a4", "int4_b32_a4")
    ]
    assert sizes[0] > 1.8 * sizes[1]
    assert sizes[1] > 1.5 * sizes[2]
    assert sizes[2] > 1.5 * sizes[3]
