"""`--kv-bits 8` from the command line: a bundle with an 8-bit cache is exported, says what it needs, is measured."""

from pathlib import Path

import pytest

from edgeprune.artifacts import read_record
from edgeprune.schema.bundle import BundleManifest
from tests.cli.conftest import Cli

pytestmark = pytest.mark.slow


def test_export_with_an_8_bit_cache_is_measured(cli: Cli, own_run: Path) -> None:
    path = own_run / "bundle" / "edgeprune.json"
    before = read_record(path, BundleManifest)
    answer = cli("export", own_run, "--kv-bits", "8")
    assert answer.code == 0, answer.err
    after = read_record(path, BundleManifest)
    assert (before.spec.kv_bits, after.spec.kv_bits) == (32, 8)
    assert before.recipe.rounding == after.recipe.rounding == "gptq"
    assert after.minimum_onnxruntime == "1.27"
    assert after.predicted is not None
    assert before.predicted is not None
    assert after.predicted.kv_cache_bytes == before.predicted.kv_cache_bytes // 4
    assert "kv_bits = 8" in (own_run / "recipe.toml").read_text()
    measured = cli("validate", own_run / "bundle", "--json")
    assert measured.code in (0, 1), measured.err
    (row,) = measured.json["measurements"]  # type: ignore[misc]
    assert row["texts"][0]["loss_nats"] > 0  # type: ignore[index]
    assert row["greedy_matched_count"] > 0  # type: ignore[index]


def test_a_recipe_file_says_it_itself(cli: Cli, own_run: Path, tmp_path: Path) -> None:
    flags = ["--recipe", own_run / "recipe.toml", "--kv-bits", "8", "--domain", own_run / "recipe.toml"]
    answer = cli("run", "-o", tmp_path / "out", *flags)
    assert answer.code == 2
    assert "write kv_bits = 8 in it" in answer.err
