"""A recipe file run as written on a real model, and refused before any work where it does not fit."""

import re
from pathlib import Path

import pytest

from edgeprune.artifacts import read_record
from edgeprune.pipeline.recipe_file import parse_recipe
from edgeprune.schema.bundle import BundleManifest
from edgeprune.schema.model import ModelSpec
from edgeprune.schema.run import RunManifest
from tests.cli.conftest import Cli, Inputs

pytestmark = pytest.mark.slow


def arguments(inputs: Inputs, output: Path, recipe: Path, *more: object) -> list[object]:
    return [
        "run", inputs.model, "--domain", inputs.domain, "--questions", inputs.questions, "--quick", "-o", output,
        "--recipe", recipe, *more,
    ]  # fmt: skip


def write_recipe(run: Path, path: Path) -> ModelSpec:
    """A recipe no search would choose: one q at rank 5 by plain SVD, a group less in one block, the rest in 8 bits."""
    spec = read_record(run / "model.json", ModelSpec)
    sites = [site.name for block in spec.blocks for site in block.sites if site.name != "blocks.0.q"]
    lines = [f'    {{ name = "{name}", kernel = "int8_b32_a4" }},' for name in sites]
    lines.insert(0, '    { name = "blocks.0.q", rank = 5, method = "laser" },  # mine')
    body = "\n".join(lines)
    path.write_text(
        f'model_hash = "{spec.model_hash}"\ncontext_tokens = 128\ntable_kernel = "int8_b32_a4"\n'
        f"keep_groups = [{{ block = 1, kept_count = 1 }}]\nsites = [\n{body}\n]\n"
    )
    return spec


def test_a_recipe_file_runs_as_written(cli: Cli, inputs: Inputs, own_run: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    spec = write_recipe(own_run, recipe)
    answer = cli(*arguments(inputs, own_run, recipe, "--json"))
    assert answer.code in (0, 1), answer.err
    assert (own_run / "recipe.toml").read_text() == recipe.read_text()
    manifest = read_record(own_run / "bundle" / "edgeprune.json", BundleManifest)
    assert manifest.spec.site("blocks.0.q").rank == 5
    assert manifest.spec.site("blocks.1.down").kernel == "int8_b32_a4"
    assert len(manifest.spec.blocks) == len(spec.blocks)
    assert [block.num_kv_heads for block in manifest.spec.blocks[:2]] == [2, 1]
    assert read_record(own_run / "manifest.json", RunManifest).request.recipe == str(recipe)
    again = cli(*arguments(inputs, own_run, recipe, "--dry-run", "--json"))
    states = again.json["stages"]
    assert isinstance(states, dict)
    assert set(states.values()) == {"finished"}
    recipe.write_text(recipe.read_text().replace("rank = 5", "rank = 6"))
    states = cli(*arguments(inputs, own_run, recipe, "--dry-run", "--json")).json["stages"]
    assert isinstance(states, dict)
    assert states["calibrate"] == "finished"
    assert states["compress"] == "run"


def test_a_recipe_that_does_not_fit_is_refused_before_any_work(
    cli: Cli, inputs: Inputs, finished: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "mine.toml"
    write_recipe(finished, recipe)
    output = tmp_path / "new"
    good = recipe.read_text()
    recipe.write_text(good.replace("rank = 5", "rank = 5000"))
    answer = cli(*arguments(inputs, output, recipe))
    assert answer.code == 2
    assert re.search(r"mine\.toml:6: recipe site blocks\.0\.q: rank 5000", answer.err)
    recipe.write_text(good)
    answer = cli(*arguments(inputs, output, recipe, "--context", "96"))
    assert answer.code == 2
    assert "mine.toml:2: context_tokens 128 is not the run's 96" in answer.err
    recipe.write_text(re.sub(r'model_hash = "[0-9a-f]{4}', 'model_hash = "0000', good))
    answer = cli(*arguments(inputs, output, recipe))
    assert answer.code == 2
    assert "mine.toml:1: " in answer.err
    assert not output.exists() or not any(output.iterdir())
    assert parse_recipe(good, read_record(finished / "model.json", ModelSpec), name="r").sites[0].rank == 5
