"""Reads what safetensors files hold without the safetensors package: names, dtypes, shapes, where the bytes lie.

Layout (safetensors format 0.4): 8 bytes little-endian header length N, N bytes of JSON `{name: {dtype, shape,
data_offsets: [begin, end]}}` with offsets relative to the end of the header, then the data. The tensors must cover the
data exactly, without holes or overlap. Only headers are read, so a folder of many gigabytes takes milliseconds.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeprune.artifacts import resolve_inside
from edgeprune.errors import ModelError
from edgeprune.intake.config import read_json

__all__ = ["DTYPE_BYTES", "TensorHeader", "WeightFiles", "find_weights", "read_header"]

DTYPE_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip
"""Bytes of one value by the names of the format."""

_HEADER_LIMIT_BYTES = 100_000_000  # the limit of the format's own reader
_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt", "model.pth", "consolidated.00.pth")


@dataclass(frozen=True, kw_only=True)
class TensorHeader:
    """One tensor of a safetensors file."""

    name: str
    dtype: str
    """`BF16`, `F32` and so on, as the format writes it."""
    shape: tuple[int, ...]
    path: Path
    begin: int
    """First byte, from the start of the file."""
    end: int

    @property
    def element_count(self) -> int:
        """Values in the tensor."""
        return math.prod(self.shape)


@dataclass(frozen=True, kw_only=True)
class WeightFiles:
    """All weight files of a model folder."""

    paths: tuple[Path, ...]
    """In the order of their names."""
    tensors: dict[str, TensorHeader]
    size_bytes: int
    """Of the files, headers included."""


def find_weights(folder: Path) -> WeightFiles:
    """Headers of `model.safetensors`, or of every shard the index names.

    Raises:
        ModelError: no weights, pickled weights only, a malformed or truncated file, a shard that is missing or lies
            outside the folder, or a tensor that is missing, listed twice or in another shard than the index says.
    """
    single, index = folder / _SINGLE, folder / _INDEX
    if single.exists():
        headers = read_header(single)
        return WeightFiles(paths=(single,), tensors=headers, size_bytes=single.stat().st_size)
    if index.exists():
        return _read_shards(folder, index)
    pickled = [name for name in _PICKLED if (folder / name).exists()] or sorted(
        path.name for path in folder.glob("*.bin") if path.is_file()
    )
    if pickled:
        raise ModelError(
            f"{folder} holds its weights as pickle only ({pickled[0]}), which can run code when it is opened; "
            "convert it to safetensors first or take a revision that has model.safetensors."
        )
    raise ModelError(f"{folder} holds no weights: {_SINGLE} and {_INDEX} are both missing; download the model again.")


def read_header(path: Path) -> dict[str, TensorHeader]:
    """Headers of one safetensors file, in the order of their data.

    Raises:
        ModelError: unreadable, malformed, or shorter than its header says.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            prefix = stream.read(8)
            if len(prefix) < 8:
                raise _malformed(path, f"it has {size} bytes, too few for a header")
            length = int.from_bytes(prefix, "little")
            if length > _HEADER_LIMIT_BYTES or length > size - 8:
                raise _malformed(path, f"its header claims {length} bytes, the file has {size}")
            raw = stream.read(length)
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); check the file.") from error
    header = _decode(path, raw)
    header.pop("__metadata__", None)
    start = 8 + length
    tensors = [_tensor(path, name, entry, start=start) for name, entry in header.items()]
    tensors.sort(key=lambda tensor: (tensor.begin, tensor.end))
    position = start
    for tensor in tensors:
        if tensor.begin != position:
            relation = "overlaps the one before it" if tensor.begin < position else "leaves a gap before it"
            raise _malformed(path, f"the data of tensor {tensor.name!r} {relation}")
        position = tensor.end
    if position > size:
        raise ModelError(
            f"{path} is truncated: its header needs {position} bytes, the file has {size}; download it again."
        )
    if position < size:
        raise _malformed(path, f"{size - position} bytes at its end belong to no tensor")
    return {tensor.name: tensor for tensor in tensors}


def _read_shards(folder: Path, index: Path) -> WeightFiles:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise _malformed(index, "it has no weight_map")
    if not all(isinstance(shard, str) for shard in weight_map.values()):
        raise _malformed(index, "its weight_map names something that is not a file")
    paths: list[Path] = []
    tensors: dict[str, TensorHeader] = {}
    for shard in sorted(set(weight_map.values())):
        # Checked lexically first: hub caches link every file out of the snapshot folder into a blob store.
        path = (
            folder / shard if Path(shard).name == shard and shard not in (".", "..") else resolve_inside(folder, shard)
        )
        if not path.is_file():
            raise ModelError(f"{index} names the shard {shard}, which is missing; download the model again.")
        for name, tensor in read_header(path).items():
            if name in tensors:
                raise ModelError(f"The tensor {name!r} stands in two shards of {folder}; download the model again.")
            if weight_map.get(name) != shard:
                raise ModelError(f"{index} and {shard} disagree about the tensor {name!r}; download the model again.")
            tensors[name] = tensor
        paths.append(path)
    missing = sorted(set(weight_map) - set(tensors))
    if missing:
        raise ModelError(f"{index} names the tensor {missing[0]!r}, which no shard holds; download the model again.")
    return WeightFiles(paths=tuple(paths), tensors=tensors, size_bytes=sum(path.stat().st_size for path in paths))


def _decode(path: Path, raw: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise _malformed(path, f"its header lists {twice!r} twice")
        return result

    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise _malformed(path, f"its header is not JSON ({error})") from error
    if not isinstance(header, dict):
        raise _malformed(path, "its header is no JSON object")
    return header


def _tensor(path: Path, name: str, entry: Any, *, start: int) -> TensorHeader:
    if not isinstance(entry, dict):
        raise _malformed(path, f"the header entry of {name!r} is no object")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        raise _malformed(path, f"tensor {name!r} has the unknown dtype {dtype!r}")
    if not isinstance(shape, list) or not all(_is_count(side) for side in shape):
        raise _malformed(path, f"tensor {name!r} has the shape {shape!r}")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(_is_count(offset) for offset in offsets):
        raise _malformed(path, f"tensor {name!r} has the offsets {offsets!r}")
    begin, end = offsets
    if end - begin != math.prod(shape) * DTYPE_BYTES[dtype]:
        raise _malformed(path, f"tensor {name!r} of shape {shape} and dtype {dtype} cannot fill {end - begin} bytes")
    return TensorHeader(name=name, dtype=dtype, shape=tuple(shape), path=path, begin=start + begin, end=start + end)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _malformed(path: Path, what: str) -> ModelError:
    return ModelError(f"{path} is malformed: {what}; download the model again.")
