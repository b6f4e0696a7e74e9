"""`--max-host-memory` and models larger than memory at the command line."""

from pathlib import Path

import pytest

from edgeprune.intake.spec import read_spec
from edgeprune.pipeline.recipe_file import write_recipe_file
from edgeprune.schema.recipe import Recipe, SiteEdit
from tests.cli.conftest import Cli, write_domain
from tests.tiny import write_tiny_llama


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, a recipe for it and domain text."""
    folder = tmp_path_factory.mktemp("place")
    spec = read_spec(write_tiny_llama(folder / "model", dtype="bfloat16"))
    sites = tuple(
        SiteEdit(name=site.name, kernel="int8_b32_a4", rank=10 if block.index == 0 else None)
        for block in spec.blocks
        for site in block.sites
        if block.index != 1
    )
    recipe = Recipe(
        model_hash=spec.model_hash, context_tokens=96, drop_blocks=(1,), sites=sites, table_kernel="int8_b32_a4"
    )
    write_recipe_file(folder / "recipe.toml", recipe)
    write_domain(folder / "domain.jsonl")
    return folder


def test_a_run_that_needs_more_is_refused_before_work(cli: Cli, place: Path, tmp_path: Path) -> None:
    answer = cli(
        "run", place / "model", "--domain", place / "domain.jsonl", "--max-host-memory", "300MB", "-o", tmp_path / "r"
    )  # fmt: skip
    assert answer.code == 2
    assert "--max-host-memory allows 300 MB" in answer.err
    assert "export MODEL --recipe" in answer.err
    assert not (tmp_path / "r" / "model.json").exists()


def test_a_size_without_a_unit_is_refused(cli: Cli) -> None:
    answer = cli("run", "--max-host-memory", "many")
    assert answer.code == 2
    assert "--max-host-memory" in answer.err


def test_a_model_becomes_a_bundle_without_a_run(cli: Cli, place: Path, tmp_path: Path) -> None:
    answer = cli(
        "export", place / "model", "--recipe", place / "recipe.toml", "--domain", place / "domain.jsonl",
        "--max-host-memory", "2GB", "-o", tmp_path / "bundle", "--json",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert answer.json["label"] == "recipe"
    assert "needs about" in answer.err
    assert (tmp_path / "bundle" / "model.onnx.data").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--max-host-memory", "100MB", "-o", "new"), "--max-host-memory allows 100 MB"),
        (("-o", "full"), "holds no bundle"),
        ((), "needs -o DIR"),
        (("-o", "new", "--kv-bits", "8"), "kv_bits = 8"),
    ],
)
def test_what_cannot_be_exported_is_refused(
    cli: Cli, place: Path, tmp_path: Path, flags: tuple[str, ...], sentence: str
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep me")
    placed = [str(tmp_path / flag) if flag in ("new", "full") else flag for flag in flags]
    answer = cli(
        "export", place / "model", "--recipe", place / "recipe.toml", "--domain", place / "domain.jsonl", *placed
    )
    assert answer.code == 2
    assert sentence in answer.err
    assert (tmp_path / "full" / "mine.txt").read_text() == "keep me"


def test_flags_of_a_recipe_without_one_are_refused(cli: Cli, tmp_path: Path) -> None:
    answer = cli("export", tmp_path, "--max-host-memory", "1GB")
    assert answer.code == 2
    assert "go with --recipe FILE" in answer.err
