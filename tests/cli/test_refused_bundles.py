"""Seven ways in which a bundle cannot be trusted, each refused by the command line with a sentence of its own."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tokenizers")

from edgeprune.artifacts import read_record
from edgeprune.demo.paths import DEVICE_BUNDLE, demo_device_path
from edgeprune.errors import ExitCode
from edgeprune.schema.bundle import BundleManifest
from tests.cli.conftest import Cli
from tests.device.decoder_graph import rehash

BUNDLE = demo_device_path() / DEVICE_BUNDLE
MANIFEST = "edgeprune.json"


def flip_a_byte(bundle: Path) -> None:
    data = bytearray((bundle / "model.onnx.data").read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / "model.onnx.data").write_bytes(bytes(data))


def remove_the_data(bundle: Path) -> None:
    (bundle / "model.onnx.data").unlink()


def name_a_file_outside(bundle: Path) -> None:
    (bundle.parent / "outside").write_bytes(b"x")
    _edit(bundle, lambda raw: raw["files"][0].update(path="../outside"))


def link_outside(bundle: Path) -> None:
    (bundle / "tokenizer.json").rename(bundle.parent / "tokenizer.json")
    (bundle / "tokenizer.json").symlink_to(bundle.parent / "tokenizer.json")


def record_another_hash(bundle: Path) -> None:
    _edit(bundle, lambda raw: raw["files"][-1].update(sha256="0" * 64))


def record_no_hash(bundle: Path) -> None:
    _edit(bundle, lambda raw: raw["files"][-1].update(sha256="none"))


def raise_the_version(bundle: Path) -> None:
    _edit(bundle, lambda raw: raw.update(schema_version=99))


def let_the_template_escape(bundle: Path) -> None:
    text = "{{ cycler.__init__.__globals__.os.popen('touch escaped').read() }}"
    (bundle / "chat_template.jinja").write_text(text, encoding="utf-8")
    _rehash(bundle)


def give_the_tokenizer_ten_million_merges(bundle: Path) -> None:
    tokenizer = json.loads((bundle / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["model"]["merges"] = []
    text = json.dumps(tokenizer).replace('"merges": []', '"merges": [' + ",".join(['"a b"'] * 10_000_000) + "]")
    (bundle / "tokenizer.json").write_text(text, encoding="utf-8")
    _rehash(bundle)


def _edit(bundle: Path, change: Callable[[dict[str, Any]], None]) -> None:
    raw = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    change(raw)
    (bundle / MANIFEST).write_text(json.dumps(raw), encoding="utf-8")


def _rehash(bundle: Path) -> None:
    rehash(bundle, read_record(bundle / MANIFEST, BundleManifest))


REFUSALS: list[tuple[Callable[[Path], None], str]] = [
    (flip_a_byte, "was changed since the bundle was made"),
    (remove_the_data, "is missing, though its manifest lists it"),
    (name_a_file_outside, "leaves that folder"),
    (link_outside, "leaves that folder"),
    (record_another_hash, "lists other sizes or hashes than it was written with"),
    (record_no_hash, "which is no sha256"),
    (raise_the_version, "has schema version 99"),
    (let_the_template_escape, "reaches for what no template may"),
    (give_the_tokenizer_ten_million_merges, "more than the tokens and merges of any model's tokenizer take"),
]


@pytest.mark.parametrize(("spoil", "sentence"), REFUSALS, ids=[spoil.__name__ for spoil, _ in REFUSALS])
def test_each_is_refused_with_its_own_sentence(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None], sentence: str
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(BUNDLE, bundle)
    _rehash(bundle)
    spoil(bundle)
    monkeypatch.chdir(tmp_path)
    said = tmp_path / "said.txt"
    said.write_text("Who presides?\n", encoding="utf-8")
    with said.open(encoding="utf-8") as stream:
        monkeypatch.setattr("sys.stdin", stream)
        answer = cli("chat", bundle, "--max-tokens", "2", "--threads", "1")
    assert answer.code == ExitCode.MODEL
    assert answer.out == ""
    assert sentence in answer.err
    assert [other for _, other in REFUSALS if other != sentence and other in answer.err] == []
    assert not (tmp_path / "escaped").exists()
    if spoil not in (let_the_template_escape, give_the_tokenizer_ten_million_merges):
        # What the manifest tells is told by every verb that opens the bundle.
        assert sentence in cli("validate", bundle, "--threads", "1").err


def test_the_same_bundle_unspoiled_answers(cli: Cli, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(BUNDLE, bundle)
    _rehash(bundle)
    assert cli("generate", bundle, "--prompt", "The court", "--max-tokens", "2", "--threads", "1").code == 0
