"""Sites compute y = x W under every kernel; weights are unpacked here by the operator's documented layout."""

from typing import Any

import numpy as np
import pytest

from edgeprune.runtime.probe_graph import Graph
from edgeprune.runtime.probe_graph_sites import site_chain
from edgeprune.runtime.session import open_session
from edgeprune.schema.kernel import parse_kernel, stored_bytes

Array = np.ndarray[Any, Any]


def unpack(kernel: str, graph: Graph, prefix: str) -> Array:
    """The matrix [in, out] in float64 that the stored arrays stand for."""
    parsed = parse_kernel(kernel)
    weight = graph.arrays[f"{prefix}.weight"]
    if parsed.kind == "float":
        return weight.astype(np.float64)
    scale = graph.arrays[f"{prefix}.scale"].astype(np.float64)
    if parsed.kind == "dynamic_int8":
        return weight.astype(np.float64) * scale
    if parsed.bits == 4:
        weight = np.stack([weight & 15, weight >> 4], axis=-1).reshape(*weight.shape[:2], -1)
    values = weight.astype(np.float64) - 2 ** (parsed.bits - 1)
    blocks = values * scale.reshape(values.shape[0], values.shape[1], 1)
    return blocks.reshape(values.shape[0], -1).T


def run(graph: Graph, x: Array) -> Array:
    result: Array = open_session(graph.to_bytes(), thread_count=1).run(["y"], {"x": x})[0]
    return result


def inputs(rows: int, width: int) -> Array:
    return np.random.default_rng(7).standard_normal((1, rows, width), dtype=np.float32)


def relative_error(got: Array, want: Array) -> float:
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))


FLOAT_KERNELS = ["fp32", "fp16", "int4_b32_a0", "int4_b128_a0", "int8_b32_a0", "int8_b64_a0"]
INTEGER_KERNELS = ["int4_b32_a4", "int4_b64_a4", "int8_b32_a4", "int8_b128_a4"]


@pytest.mark.parametrize("rows", [1, 9])
@pytest.mark.parametrize("kernel", FLOAT_KERNELS)
def test_kernels_with_float_activations_are_exact(kernel: str, rows: int) -> None:
    graph = site_chain(kernel, in_features=128, out_features=64, site_count=1)
    x = inputs(rows, 128)
    assert relative_error(run(graph, x), x @ unpack(kernel, graph, "site0.0")) < 1e-6


@pytest.mark.parametrize("rows", [1, 9])
@pytest.mark.parametrize("kernel", INTEGER_KERNELS)
def test_kernels_with_integer_activations_err_as_8_bits_do(kernel: str, rows: int) -> None:
    graph = site_chain(kernel, in_features=256, out_features=64, site_count=1)
    x = inputs(rows, 256)
    error = relative_error(run(graph, x), x @ unpack(kernel, graph, "site0.0"))
    # Rounding to 1/127 of a block's largest (about 2.5 deviations) has a deviation of 2.5/127/sqrt(12) = 0.6 %.
    assert 1e-4 < error < 0.012


@pytest.mark.parametrize("rows", [1, 9])
def test_dynamic_int8_quantizes_the_whole_input_once(rows: int) -> None:
    graph = site_chain("dynamic_int8", in_features=256, out_features=64, site_count=1)
    # Small weights: without VNNI, products of 8-bit pairs saturate in 16 bits (onnxruntime, quantization guide).
    graph.arrays["site0.0.weight"] //= 4
    x = inputs(rows, 256)
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    step = np.float32((high - low) / 255.0)
    zero = np.clip(np.rint(-low / step), 0, 255)
    quantized = np.clip(np.rint(x / step) + zero, 0, 255) - zero
    want = quantized * np.float64(step) @ unpack("dynamic_int8", graph, "site0.0")
    assert relative_error(run(graph, x), want) < 1e-5


@pytest.mark.parametrize("kernel", ["fp32", "int4_b32_a0"])
def test_square_sites_feed_each_other(kernel: str) -> None:
    graph = site_chain(kernel, in_features=64, out_features=64, site_count=3)
    x = inputs(2, 64)
    want = x.astype(np.float64)
    for i in range(3):
        want = want @ unpack(kernel, graph, f"site{i}.0")
    assert relative_error(run(graph, x), want) < 1e-5


@pytest.mark.parametrize("kernel", ["fp32", "int8_b32_a0"])
def test_two_factors_are_right_then_left(kernel: str) -> None:
    graph = site_chain(kernel, in_features=96, out_features=160, site_count=2, rank=32)
    x = inputs(3, 96)
    want = x @ unpack(kernel, graph, "site1.0") @ unpack(kernel, graph, "site1.1")
    assert relative_error(run(graph, x), want) < 1e-5


@pytest.mark.parametrize("kernel", [*FLOAT_KERNELS, *INTEGER_KERNELS, "dynamic_int8"])
def test_arrays_take_the_bytes_the_schema_promises(kernel: str) -> None:
    graph = site_chain(kernel, in_features=96, out_features=160, site_count=2)
    assert graph.array_bytes == 2 * stored_bytes(kernel, in_features=96, out_features=160)


def test_every_site_has_weights_of_its_own() -> None:
    # onnxruntime keeps one prepared copy of equal weights: a chain of equal ones would fit a cache it should exceed.
    graph = site_chain("int4_b32_a4", in_features=64, out_features=64, site_count=300)
    assert len({array.tobytes() for name, array in graph.arrays.items() if name.endswith("weight")}) == 300


def test_rectangular_sites_are_all_run(tmp_path: Any) -> None:
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    graph = site_chain("int4_b32_a4", in_features=64, out_features=96, site_count=5)
    session = ort.InferenceSession(graph.to_bytes(), options, providers=["CPUExecutionProvider"])
    session.run(None, {"x": inputs(2, 64)})
    with open(session.end_profiling(), encoding="utf-8") as stream:
        text = stream.read()
    assert text.count('"op_name" : "MatMulNBits"') == 5
