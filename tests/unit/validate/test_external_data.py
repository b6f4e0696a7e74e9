from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgeprune.errors import ModelError
from edgeprune.runtime.probe_graph import trivial_chain
from edgeprune.validate.external_data import external_locations


def external(name: str, location: str) -> TensorProto:
    tensor = helper.make_tensor(name, TensorProto.FLOAT, [2], [0.0, 0.0])
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("offset", "0"), ("location", location), ("length", "8")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def test_locations_are_found_wherever_a_tensor_can_stand(tmp_path: Path) -> None:
    branch = helper.make_graph([], "branch", [], [], initializer=[external("d", "in_branch")])
    nodes = [
        helper.make_node("Constant", [], ["a"], value=external("a", "in_attribute")),
        helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch),
    ]
    inline = helper.make_tensor("inline", TensorProto.FLOAT, [3], np.ones(3))
    graph = helper.make_graph(nodes, "g", [], [], initializer=[external("b", "../weights"), inline])
    model = helper.make_model(graph)
    function = helper.make_function("d", "f", [], ["z"], [
        helper.make_node("Constant", [], ["z"], value=external("e", "in_function"))
    ], [])  # fmt: skip
    model.functions.append(function)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    assert external_locations(path) == {"in_branch", "in_attribute", "../weights", "in_function"}
    assert onnx.__version__  # the oracle that wrote the file


def test_a_graph_with_its_weights_inside_has_none(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(trivial_chain(4).to_bytes())
    assert external_locations(path) == frozenset()


@pytest.mark.parametrize("content", [b"", b"\xff" * 40, b"\x3a\xff\xff\xff\xff\x0f", b"not a graph at all"])
def test_garbage_is_a_model_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="not a readable ONNX graph"):
        external_locations(path)


def test_a_truncated_graph_is_a_model_error(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(trivial_chain(40).to_bytes()[:-7])
    with pytest.raises(ModelError, match="longer than the file"):
        external_locations(path)


def test_nesting_without_end_is_refused(tmp_path: Path) -> None:
    def field(number: int, data: bytes) -> bytes:
        size, length = len(data), bytearray()
        while size > 0x7F:
            length.append(size & 0x7F | 0x80)
            size >>= 7
        length.append(size)
        return bytes([number << 3 | 2]) + bytes(length) + data

    graph = b""
    for _ in range(100):
        graph = field(1, field(5, field(6, graph)))
    path = tmp_path / "model.onnx"
    path.write_bytes(field(7, graph))
    with pytest.raises(ModelError, match="nested too deeply"):
        external_locations(path)
