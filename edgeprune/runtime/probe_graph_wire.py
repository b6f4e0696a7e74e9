"""ONNX ModelProto as raw protobuf bytes, so that a device without the `onnx` package can build small graphs.

Takes nodes, named arrays and typed inputs and outputs; gives the bytes of a model that onnxruntime loads. Field
numbers are those of onnx.proto (ONNX repository, onnx/onnx.proto, IR version 8 and later); wire types are those of
the protocol buffers encoding: 0 for varints, 2 for length-delimited, 5 for 32-bit.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = ["ArrayRange", "Node", "TypedValue", "model_bytes", "tensor_bytes"]

Attribute = int | float | str

_IR_VERSION = 8
_OPSET = 18
_MICROSOFT = "com.microsoft"
_ATTRIBUTE_TYPES = {float: 1, int: 2, str: 3}
_DATA_TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "bool": 9, "float16": 10}


class Node(NamedTuple):
    """One operator call; an empty input or output name leaves an optional one out."""

    op_type: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    attributes: Mapping[str, Attribute] = {}
    domain: str = ""


class TypedValue(NamedTuple):
    """Name, element type and shape of a graph input or output; a string is a dimension known only at run time."""

    name: str
    dtype: str
    shape: Sequence[int | str]


class ArrayRange(NamedTuple):
    """Where an initializer lies in a file beside the graph."""

    location: str
    offset: int
    length: int


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _integer(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _delimited(field: int, data: bytes | str) -> bytes:
    payload = data.encode() if isinstance(data, str) else data
    return b"".join((_varint(field << 3 | 2), _varint(len(payload)), payload))


def _float(field: int, value: float) -> bytes:
    return _varint(field << 3 | 5) + struct.pack("<f", value)


def _repeated(field: int, items: Iterable[bytes | str]) -> bytes:
    return b"".join(_delimited(field, item) for item in items)


def _attribute(name: str, value: Attribute) -> bytes:
    body = _delimited(1, name) + _integer(20, _ATTRIBUTE_TYPES[type(value)])
    if isinstance(value, float):
        return body + _float(2, value)
    if isinstance(value, int):
        return body + _integer(3, value)
    return body + _delimited(4, value)


def _node(node: Node) -> bytes:
    return b"".join(
        (
            _repeated(1, node.inputs),
            _repeated(2, node.outputs),
            _delimited(4, node.op_type),
            _repeated(5, (_attribute(name, value) for name, value in node.attributes.items())),
            _delimited(7, node.domain),
        )
    )


def _value_info(value: TypedValue) -> bytes:
    dims = (_delimited(2, dim) if isinstance(dim, str) else _integer(1, dim) for dim in value.shape)
    tensor = _integer(1, _DATA_TYPES[value.dtype]) + _delimited(2, _repeated(1, dims))
    return _delimited(1, value.name) + _delimited(2, _delimited(1, tensor))


def tensor_bytes(name: str, array: np.ndarray[Any, Any], stored: ArrayRange | None) -> bytes:
    """A TensorProto: the values themselves, or a reference into a file when `stored` is given."""
    head = b"".join(_integer(1, size) for size in array.shape)
    head += _integer(2, _DATA_TYPES[array.dtype.name]) + _delimited(8, name)
    if stored is None:
        return head + _delimited(9, np.ascontiguousarray(array).tobytes())
    entries = {"location": stored.location, "offset": str(stored.offset), "length": str(stored.length)}
    pairs = (_delimited(1, key) + _delimited(2, value) for key, value in entries.items())
    return head + _repeated(13, pairs) + _integer(14, 1)


def model_bytes(
    nodes: Sequence[Node], *, inputs: Sequence[TypedValue], outputs: Sequence[TypedValue], tensors: Iterable[bytes]
) -> bytes:
    """A ModelProto with one graph; `tensors` are initializers from `tensor_bytes`."""
    graph = b"".join(
        (
            _repeated(1, map(_node, nodes)),
            _delimited(2, "probe"),
            _repeated(5, tensors),
            _repeated(11, map(_value_info, inputs)),
            _repeated(12, map(_value_info, outputs)),
        )
    )
    opsets = (_delimited(1, domain) + _integer(2, version) for domain, version in (("", _OPSET), (_MICROSOFT, 1)))
    return b"".join((_integer(1, _IR_VERSION), _delimited(2, "edgeprune"), _delimited(7, graph), _repeated(8, opsets)))
