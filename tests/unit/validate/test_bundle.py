import json
from pathlib import Path
from typing import Any

import pytest

from edgeprune.artifacts import read_record
from edgeprune.errors import ModelError
from edgeprune.schema.bundle import BundleManifest
from edgeprune.validate.bundle import open_bundle, read_manifest
from tests.device.decoder_graph import TinyDecoder, rehash, write_graph


def edit_manifest(bundle: Path, **changes: Any) -> None:
    path = bundle / "edgeprune.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def test_a_sound_bundle_tells_its_bytes(bundle: Path) -> None:
    opened = open_bundle(bundle)
    sizes = {name: (bundle / name).stat().st_size for name in ("model.onnx", "model.onnx.data", "tokenizer.json")}
    assert opened.disk_bytes == sum(sizes.values())
    assert opened.weights_bytes == sizes["model.onnx.data"]


def test_files_the_manifest_does_not_list_still_take_disk(bundle: Path) -> None:
    before = open_bundle(bundle).disk_bytes
    (bundle / "notes.txt").write_bytes(b"x" * 1000)
    assert open_bundle(bundle).disk_bytes == before + 1000


def test_weights_inside_the_graph_count_as_weights(bundle: Path, tiny: TinyDecoder) -> None:
    manifest = read_manifest(bundle)
    (bundle / "model.onnx.data").unlink()
    (bundle / "model.onnx").write_bytes(tiny.graph().to_bytes())
    rehash(bundle, manifest)
    assert open_bundle(bundle).weights_bytes == (bundle / "model.onnx").stat().st_size


def test_no_folder_and_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no such folder"):
        open_bundle(tmp_path / "absent")
    with pytest.raises(ModelError, match=r"it has no edgeprune\.json"):
        open_bundle(tmp_path)


def test_one_changed_byte_is_found(bundle: Path) -> None:
    path = bundle / "model.onnx.data"
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"model\.onnx\.data was changed .* another sha256"):
        open_bundle(bundle)


def test_a_truncated_file_is_found_by_its_size(bundle: Path) -> None:
    path = bundle / "model.onnx.data"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelError, match="its manifest says"):
        open_bundle(bundle)


def test_a_missing_file_is_named(bundle: Path) -> None:
    (bundle / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"tokenizer\.json is missing"):
        open_bundle(bundle)


def test_a_newer_schema_is_refused_by_number(bundle: Path) -> None:
    edit_manifest(bundle, schema_version=99)
    with pytest.raises(ModelError, match="schema version 99"):
        open_bundle(bundle)


def test_an_unknown_field_is_refused(bundle: Path) -> None:
    edit_manifest(bundle, surprise=1)
    with pytest.raises(ModelError, match="surprise"):
        open_bundle(bundle)


@pytest.mark.parametrize("path", ["../outside", "/etc/hostname", "eval/../../outside"])
def test_a_path_that_leaves_the_bundle_is_refused(bundle: Path, path: str) -> None:
    (bundle.parent / "outside").write_text("x", encoding="utf-8")
    files = json.loads((bundle / "edgeprune.json").read_text(encoding="utf-8"))["files"]
    edit_manifest(bundle, files=[*files, {"path": path, "size_bytes": 1, "sha256": "0" * 64}])
    with pytest.raises(ModelError, match="leaves that folder"):
        open_bundle(bundle)


@pytest.mark.parametrize("name", ["tokenizer.json", "edgeprune.json", "eval"])
def test_links_are_refused_even_inside(bundle: Path, name: str) -> None:
    (bundle / name).rename(bundle / "moved")
    (bundle / name).symlink_to(bundle / "moved")
    with pytest.raises(ModelError, match="symbolic link"):
        open_bundle(bundle)


def test_weights_outside_the_manifest_are_refused(bundle: Path, tiny: TinyDecoder) -> None:
    manifest = read_manifest(bundle)
    for location in ("../model.onnx.data", "other.data"):
        write_graph(bundle, tiny.graph(), location=location)
        rehash(bundle, manifest)
        with pytest.raises(ModelError, match=r"leaves that folder|does not list"):
            open_bundle(bundle)


def test_an_evaluation_set_must_be_listed(bundle: Path) -> None:
    manifest = read_record(bundle / "edgeprune.json", BundleManifest)
    (bundle / "eval" / "domain.npz").unlink()
    rehash(bundle, manifest)
    with pytest.raises(ModelError, match=r"does not list eval/domain\.npz"):
        open_bundle(bundle)
