"""Safetensors headers: what is read, and every way a file can lie."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeprune.errors import ExitCode, ModelError
from edgeprune.intake.headers import find_weights, read_header
from tests.tiny import write_safetensors, write_tiny_llama


def write_raw(path: Path, header: Any, data: bytes = b"", *, length: int | None = None) -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(raw) if length is None else length).to_bytes(8, "little") + raw + data)
    return path


def entry(begin: int, end: int, *, dtype: str = "F32", shape: list[int] | None = None) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [(end - begin) // 4] if shape is None else shape, "data_offsets": [begin, end]}


def test_reads_what_the_safetensors_package_reads(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(4, np.float32)}
    path = tmp_path / "x.safetensors"
    write_safetensors(path, tensors)
    headers = read_header(path)
    content = path.read_bytes()
    for name, array in load_file(path).items():
        header = headers[name]
        assert header.shape == array.shape
        assert header.dtype == "F32"
        assert content[header.begin : header.end] == array.tobytes()


@pytest.mark.parametrize(
    ("header", "data", "words"),
    [
        (b"not json", b"", "is not JSON"),
        (b"[1, 2]", b"", "no JSON object"),
        (b"[" * 100_000, b"", "is not JSON"),
        (b"\xff\xfe", b"", "is not JSON"),
        ({"a": 3}, b"", "is no object"),
        ({"a": entry(0, 8, dtype="F17")}, b"x" * 8, "unknown dtype 'F17'"),
        ({"a": entry(0, 8, shape=[-2])}, b"x" * 8, "shape"),
        ({"a": entry(0, 8, shape=[True, 2])}, b"x" * 8, "shape"),
        ({"a": entry(0, 8, shape=[3])}, b"x" * 8, "cannot fill 8 bytes"),
        ({"a": entry(0, 8, shape=[2**60, 2**60])}, b"x" * 8, "cannot fill 8 bytes"),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}, b"x" * 8, "cannot fill"),
        ({"a": {"dtype": "F32", "shape": [2]}}, b"x" * 8, "offsets None"),
        ({"a": entry(0, 8), "b": entry(4, 12)}, b"x" * 12, "overlaps"),
        ({"a": entry(0, 8), "b": entry(12, 16)}, b"x" * 16, "gap"),
        ({"a": entry(0, 8)}, b"x" * 12, "belong to no tensor"),
        (b'{"a": {}, "a": {}}', b"", "lists 'a' twice"),
    ],
)
def test_malformed_headers_are_refused(tmp_path: Path, header: Any, data: bytes, words: str) -> None:
    path = write_raw(tmp_path / "x.safetensors", header, data)
    with pytest.raises(ModelError, match=r"x\.safetensors is malformed") as caught:
        read_header(path)
    assert words in str(caught.value)
    assert caught.value.exit_code == ExitCode.MODEL


def test_a_header_that_claims_a_tebibyte_is_refused_without_reading_it(tmp_path: Path) -> None:
    path = write_raw(tmp_path / "x.safetensors", {"a": entry(0, 8)}, b"x" * 8, length=2**40)
    with pytest.raises(ModelError, match=f"header claims {2**40} bytes, the file has"):
        read_header(path)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"")
    with pytest.raises(ModelError, match="too few for a header"):
        read_header(path)


def test_a_truncated_file_says_so(tmp_path: Path) -> None:
    path = write_raw(tmp_path / "x.safetensors", {"a": entry(0, 400)}, b"x" * 399)
    with pytest.raises(ModelError, match="is truncated: its header needs"):
        read_header(path)


def test_shards_are_joined(tmp_path: Path) -> None:
    one = find_weights(write_tiny_llama(tmp_path / "one"))
    three = find_weights(write_tiny_llama(tmp_path / "three", shard_count=3))
    assert len(three.paths) == 3
    assert {name: header.shape for name, header in one.tensors.items()} == {
        name: header.shape for name, header in three.tensors.items()
    }
    assert three.size_bytes == sum(path.stat().st_size for path in three.paths)


def edit_index(folder: Path, change: Any) -> Path:
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))
    return folder


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "m", shard_count=2)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelError, match=r"names the shard model-00002-of-00002\.safetensors, which is missing"):
        find_weights(folder)


@pytest.mark.parametrize("name", ["../evil.safetensors", "/etc/passwd", "a/../../evil.safetensors"])
def test_a_shard_outside_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    write_safetensors(tmp_path / "evil.safetensors", {"model.norm.weight": np.ones(2, np.float32)})
    folder = write_tiny_llama(tmp_path / "m", shard_count=2)
    edit_index(folder, lambda index: index["weight_map"].update({"model.norm.weight": name}))
    with pytest.raises(ModelError, match="leaves that folder"):
        find_weights(folder)


def test_an_index_without_a_map_is_refused(tmp_path: Path) -> None:
    folder = edit_index(write_tiny_llama(tmp_path / "m", shard_count=2), lambda index: index.pop("weight_map"))
    with pytest.raises(ModelError, match="has no weight_map"):
        find_weights(folder)


def test_an_index_that_names_a_tensor_nobody_holds_is_refused(tmp_path: Path) -> None:
    shard = "model-00001-of-00002.safetensors"
    folder = edit_index(
        write_tiny_llama(tmp_path / "m", shard_count=2), lambda index: index["weight_map"].update({"ghost": shard})
    )
    with pytest.raises(ModelError, match="names the tensor 'ghost', which no shard holds"):
        find_weights(folder)


def test_an_index_that_names_the_wrong_shard_is_refused(tmp_path: Path) -> None:
    def swap(index: Any) -> None:
        name = next(iter(index["weight_map"]))
        index["weight_map"][name] = "model-00002-of-00002.safetensors"

    folder = edit_index(write_tiny_llama(tmp_path / "m", shard_count=2), swap)
    with pytest.raises(ModelError, match="disagree about the tensor"):
        find_weights(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "model.pt"])
def test_pickle_only_is_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04.")
    with pytest.raises(ModelError, match=r"as pickle only .* can run code .* convert it to safetensors"):
        find_weights(tmp_path)


def test_no_weights_at_all(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no weights"):
        find_weights(tmp_path)
