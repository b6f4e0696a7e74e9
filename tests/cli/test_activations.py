"""`--activations float16` from the command line: bundles in half precision, measured and written to as others are."""

from pathlib import Path

import onnx
import pytest

from edgeprune.errors import UsageError
from edgeprune.intake.spec import read_spec
from edgeprune.pipeline.recipe_file import write_recipe_file
from edgeprune.pipeline.request import complete_request
from edgeprune.pipeline.settings import KERNELS, kernels_of
from edgeprune.schema.run import RunRequest
from edgeprune.search.baselines import plain_recipe
from tests.cli.conftest import Cli, Inputs

FLOAT16 = onnx.TensorProto.FLOAT16


def _cache_types(bundle: Path) -> set[int]:
    graph = onnx.load(bundle / "model.onnx", load_external_data=False).graph
    return {entry.type.tensor_type.elem_type for entry in graph.input if entry.name.startswith("past")}


@pytest.mark.slow
def test_a_run_is_exported_anew_in_half_precision(cli: Cli, own_run: Path, inputs: Inputs) -> None:
    # As written, since what this machine is quickest at might be dynamic int8, which has no such form.
    spec = read_spec(inputs.model)
    write_recipe_file(own_run / "recipe.toml", plain_recipe(spec, "int8_b32_a4", context_tokens=128, seed=0))
    answer = cli("compress", own_run)
    assert answer.code == 0, answer.err
    answer = cli("export", own_run, "--activations", "float16", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["activation_bits"] == 16
    assert [_cache_types(own_run / name) for name in ("bundle", "baselines/dense")] == [{FLOAT16}] * 2
    assert "| key-value cache | float16 |" in (own_run / "bundle" / "README.md").read_text(encoding="utf-8")
    written = cli("generate", own_run / "bundle", "--prompt", "the court", "--max-tokens", "8")
    assert written.code == 0, written.err
    measured = cli("validate", own_run / "bundle", "--json")
    assert measured.code in (0, 1), measured.err
    (row,) = measured.json["measurements"]  # type: ignore[misc]
    assert row["texts"][0]["loss_nats"] > 0  # type: ignore[index]


def test_a_model_larger_than_memory_may_be_in_half_precision_too(cli: Cli, inputs: Inputs, tmp_path: Path) -> None:
    spec = read_spec(inputs.model)
    write_recipe_file(tmp_path / "recipe.toml", plain_recipe(spec, "int4_b32_a4", context_tokens=96, seed=0))
    answer = cli(
        "export", inputs.model, "--recipe", tmp_path / "recipe.toml", "--domain", inputs.domain,
        "--activations", "float16", "-o", tmp_path / "bundle",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert _cache_types(tmp_path / "bundle") == {FLOAT16}


def test_a_cache_of_8_bits_beside_it_is_refused(cli: Cli, inputs: Inputs, tmp_path: Path) -> None:
    answer = cli(
        "run", inputs.model, "--domain", inputs.domain, "--activations", "float16", "--kv-bits", "8",
        "-o", tmp_path / "run",
    )  # fmt: skip
    assert answer.code == 2
    assert "8 bits is not exact beside activations in float16" in answer.err
    assert not (tmp_path / "run" / "model.json").exists()


def test_a_gpu_computes_in_half_unless_told(cli: Cli, inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[RunRequest] = []

    def keep(request: RunRequest, **_: object) -> None:
        asked.append(request)
        raise UsageError("that is all")

    monkeypatch.setattr("edgeprune.api.preview", keep)
    for flags in ((), ("--ep", "cuda"), ("--ep", "cuda", "--activations", "float32"), ("--activations", "float16")):
        cli("run", inputs.model, "--domain", inputs.domain, *flags, "--dry-run")
    assert [request.activation_bits for request in asked] == [32, 16, 32, 16]


def test_no_kernel_that_computes_in_float32_is_scored_for_half_precision(inputs: Inputs) -> None:
    half = complete_request(RunRequest(model=str(inputs.model), domain=(str(inputs.domain),), activation_bits=16))
    assert set(KERNELS) - set(kernels_of(half)) == {"dynamic_int8"}
