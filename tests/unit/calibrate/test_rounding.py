import numpy as np
import pytest

from edgeprune.errors import UsageError
from edgeprune.rounding import dequantized, round_weight, rounding_key

INTEGER_KERNELS = ("int4_b16_a0", "int4_b32_a4", "int4_b128_a0", "int8_b32_a4", "int8_b256_a0", "dynamic_int8")


def weight(rows: int = 24, columns: int = 200) -> np.ndarray:
    values = np.random.default_rng(0).standard_normal((rows, columns)).astype(np.float32)
    values[3] = 0
    values[4] = np.where(np.arange(columns) % 2, 0.5, -0.5)
    return values


@pytest.mark.parametrize(("bits", "block_size"), [(4, 16), (4, 32), (4, 128), (8, 32), (8, 128), (8, 256)])
def test_gives_the_integers_and_scales_of_onnxruntimes_own_quantizer(bits: int, block_size: int) -> None:
    state = pytest.importorskip("onnxruntime.capi._pybind_state")
    columns, rows = 704, 96
    values = weight(rows, columns)
    blocks = -(-columns // block_size)
    packed = np.zeros((rows, blocks, block_size * bits // 8), np.uint8)
    scales = np.zeros((rows, blocks), np.float32)
    zero_points = np.zeros((rows, (blocks * bits + 7) // 8), np.uint8)
    padded = np.zeros((blocks * block_size, rows), np.float32)
    padded[:columns] = values.T
    quantize = state.quantize_matmul_4bits if bits == 4 else state.quantize_matmul_8bits
    quantize(packed, padded, scales, zero_points, block_size, rows, columns, True)
    stored = np.stack([packed & 15, packed >> 4], axis=-1) if bits == 4 else packed
    expected = stored.reshape(rows, -1)[:, :columns].astype(int) - 2 ** (bits - 1)

    rounded = round_weight(values, f"int{bits}_b{block_size}_a0")

    np.testing.assert_array_equal(rounded.values, expected)
    np.testing.assert_array_equal(rounded.scales, scales)


@pytest.mark.parametrize("bits", [4, 8])
def test_dequantised_matrix_is_what_the_operator_multiplies_by(bits: int) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper, numpy_helper

    block_size, columns, rows = 32, 96, 16
    values = weight(rows, columns)
    rounded = round_weight(values, f"int{bits}_b{block_size}_a0")
    stored = (rounded.values.astype(int) + 2 ** (bits - 1)).astype(np.uint8)
    if bits == 4:
        stored = stored[:, 0::2] | (stored[:, 1::2] << 4)
    graph = helper.make_graph(
        [
            helper.make_node(
                "MatMulNBits",
                ["x", "w", "s"],
                ["y"],
                domain="com.microsoft",
                K=columns,
                N=rows,
                bits=bits,
                block_size=block_size,
                accuracy_level=0,
            )
        ],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [columns, columns])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [columns, rows])],
        [
            numpy_helper.from_array(stored.reshape(rows, columns // block_size, -1), "w"),
            numpy_helper.from_array(rounded.scales, "s"),
        ],
    )
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    (matrix,) = session.run(None, {"x": np.eye(columns, dtype=np.float32)})

    np.testing.assert_allclose(matrix.T, rounded.dequantized, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kernel", INTEGER_KERNELS)
def test_rounding_the_dequantised_matrix_changes_nothing(kernel: str) -> None:
    first = round_weight(weight(), kernel)
    np.testing.assert_array_equal(round_weight(first.dequantized, kernel).values, first.values)


@pytest.mark.parametrize("kernel", INTEGER_KERNELS)
def test_error_is_at_most_one_step_and_zeros_stay_zero(kernel: str) -> None:
    values = weight()
    rounded = round_weight(values, kernel)
    error = np.abs(rounded.dequantized - values).max()
    assert error <= np.abs(rounded.scales).max() * 1.0001
    assert not rounded.dequantized[3].any()


def test_largest_magnitude_of_a_block_is_kept_exactly() -> None:
    values = np.array([[0.1, -0.7, 0.3, 0.7] + [0.0] * 12], dtype=np.float32)
    rounded = round_weight(values, "int4_b16_a0")
    assert rounded.dequantized[0, 1] == values[0, 1]
    assert rounded.values[0, 1] == -8
    assert rounded.values[0, 3] == 7


def test_float_kernels_have_no_integers() -> None:
    with pytest.raises(UsageError, match="fp16 stores floats"):
        round_weight(weight(), "fp16")


def test_float16_keeps_values_finite() -> None:
    values = np.array([[1e6, 1.0, 1e-3]], dtype=np.float32)
    half = dequantized(values, "fp16")
    assert half[0, 0] == 65504
    assert half[0, 2] == np.float32(np.float16(1e-3))
    np.testing.assert_array_equal(dequantized(values, "fp32"), values)


def test_accuracy_levels_share_one_rounding() -> None:
    assert rounding_key("int4_b32_a0") == rounding_key("int4_b32_a4") != rounding_key("int4_b64_a4")
