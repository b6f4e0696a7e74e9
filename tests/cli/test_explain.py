"""Locks, recipes that people edit, and explanations, from the command line; without torch and without weights."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from edgeprune.artifacts import read_record
from edgeprune.pipeline.device_stages import search_inputs
from edgeprune.pipeline.opening import reopen_run
from edgeprune.pipeline.recipe_file import read_recipe_file
from edgeprune.pipeline.stages import stage_named
from edgeprune.pipeline.table import is_finished
from edgeprune.schema.candidate import SearchResult
from edgeprune.schema.lock import parse_locks
from edgeprune.schema.model import ModelSpec
from edgeprune.schema.recipe import Recipe
from tests.cli.conftest import Cli
from tests.cli.scored_run import DISK_BYTES, write_scored_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_scored_run(tmp_path / "run")


@pytest.fixture
def solved(run: Path, cli: Cli) -> Path:
    answer = cli("search", run)
    assert answer.code == 0, answer.err
    return run


def recipe_of(run: Path) -> Recipe:
    return read_recipe_file(run / "recipe.toml", read_record(run / "model.json", ModelSpec))


def edit(run: Path, written: str, edited: str) -> int:
    """Replace a piece of the recipe itself, and tell its line."""
    path = run / "recipe.toml"
    head, body = path.read_text().split("\n\n", 1)
    assert written in body
    line = (head + "\n\n" + body[: body.index(written)]).count("\n") + 1
    path.write_text(head + "\n\n" + body.replace(written, edited, 1))
    return line


CHANGES = """
import sys
from pathlib import Path
opened = []
def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        name = arguments[0] if isinstance(arguments[0], str) else arguments[0].decode()
        opened.append(name)
        if name.endswith((".safetensors", ".onnx", ".data", ".bin")) or "/model/" in name:
            raise RuntimeError(f"a weight file was opened: {name}")
sys.addaudithook(watch)
from edgeprune import api
from edgeprune.schema.budget import BudgetRequest, Limit
from edgeprune.schema.lock import parse_locks
run = Path(sys.argv[1])
first = api.search(run)
disk = api.search(run, budget=BudgetRequest(disk=Limit(absolute=200_000)))
context = api.search(run, context=96)
locked = api.search(run, locks=parse_locks(["*.q=int8", "depth=none"]))
assert first.chosen and disk.chosen and context.chosen and locked.chosen
assert disk.chosen.loss_increase_nats < first.chosen.loss_increase_nats
assert (disk.context_tokens, context.context_tokens, locked.context_tokens) == (128, 96, 96)
assert context.chosen.cost.kv_cache_bytes < disk.chosen.cost.kv_cache_bytes
assert {edit.kernel[:4] for edit in locked.chosen.recipe.sites if edit.name.endswith(".q")} == {"int8"}
explained = api.explain(run)
assert explained.locks == locked.locks
assert any(name.endswith("scores.npz") for name in opened), "the hook saw nothing"
heavy = {"torch", "transformers", "onnx", "onnxruntime", "scipy", "safetensors"} & set(sys.modules)
assert not heavy, heavy
try:
    open(run / "stats.safetensors")
except RuntimeError:
    sys.stdout.write("denied")
"""


def test_budget_context_and_locks_are_solved_again_without_weights(run: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHANGES, str(run)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == "denied"


def test_locks_stay_with_the_run_until_they_are_lifted(solved: Path, cli: Cli) -> None:
    answer = cli("search", solved, "--lock", "blocks.*.o=int8_b32_a4", "--lock", "depth=none", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["locks"] == [
        {"pattern": "blocks.*.o", "action": "int8_b32_a4"},
        {"pattern": "depth", "action": "none"},
    ]
    assert {site.kernel for site in recipe_of(solved).sites if site.name.endswith(".o")} == {"int8_b32_a4"}
    again = cli("search", solved, "--disk", "200kB", "--json")
    assert again.json["locks"] == answer.json["locks"]
    assert cli("search", solved, "--lock", "none", "--json").json["locks"] == []


def test_locks_recipe_and_context_are_in_the_key_of_a_search(solved: Path) -> None:
    work = reopen_run(solved, None)
    stage, asked = stage_named("search"), work.request
    assert is_finished(stage, work)
    for changed in (
        replace(asked, locks=parse_locks(["depth=none"])),
        replace(asked, recipe=str(solved / "recipe.toml")),
        replace(asked, context_tokens=96),
    ):
        work.request = changed
        assert not is_finished(stage, work)
    work.request = replace(asked, recipe=str(solved / "recipe.toml"))
    before = search_inputs(work)
    edit(solved, "seed = 0", "seed = 1")
    assert search_inputs(work) != before


@pytest.mark.parametrize(
    ("lock", "named"),
    [
        ("blocks.0.q", "PATTERN=ACTION"),
        ("blocks.0.qq=int8", "nearest are blocks.0.q"),
        ("blocks.0.q=int3", "no action 'int3'"),
        ("block.0=drop", "'block.0=drop' leaves no option"),
    ],
)
def test_a_lock_that_cannot_hold_is_one_sentence(solved: Path, cli: Cli, lock: str, named: str) -> None:
    before = (solved / "recipe.toml").read_bytes()
    answer = cli("search", solved, "--lock", lock)
    assert answer.code == 2
    assert named in answer.err
    assert answer.err.strip().splitlines()[-1].startswith("edgeprune: --lock ")
    assert answer.out == ""
    assert (solved / "recipe.toml").read_bytes() == before


def test_a_lock_that_makes_the_budget_infeasible_is_a_valid_answer(solved: Path, cli: Cli) -> None:
    answer = cli("search", solved, "--lock", "*=fp32", "--lock", "table=fp32", "--lock", "*=dense", "--json")
    assert answer.code == 1
    result = read_record(solved / "front.json", SearchResult)
    assert result.infeasible is not None
    assert any(concession.kind == "lock" for concession in result.infeasible.concessions) or result.infeasible.nearest


def test_the_explanation_names_the_whole_each_block_and_each_site(solved: Path, cli: Cli) -> None:
    answer = cli("explain", solved)
    assert answer.code == 0, answer.err
    assert answer.out.startswith(f"{solved / 'recipe.toml'}\n")
    assert max(map(len, answer.out.splitlines()[1:])) <= 100
    spec = read_record(solved / "model.json", ModelSpec)
    kept = [block.index for block in spec.blocks if block.index not in recipe_of(solved).drop_blocks]
    for index in kept:
        assert f"block {index}: " in answer.out
    assert "disk" in answer.out
    assert "nats/MB" in answer.out
    assert answer.out.count("Closest call") == len(kept)
    told: Any = cli("explain", solved / "recipe.toml", "--json").json
    assert told["is_edited"] is False
    assert {choice["name"] for block in told["blocks"] for choice in block["sites"]} == {
        site.name for block in spec.blocks if block.index in kept for site in block.sites
    }
    assert all(
        {"loss_nats", "disk_bytes", "decode_s", "reason"} <= set(option)
        for block in told["blocks"]
        for choice in block["sites"]
        for option in choice["alternatives"]
    )


def test_one_block_and_one_site_can_be_asked_for(solved: Path, cli: Cli) -> None:
    block = recipe_of(solved)
    index = next(index for index in range(3) if index not in block.drop_blocks)
    full = cli("explain", solved, "--block", index)
    assert f"blocks.{index}.q: " in full.out
    assert "beaten" in full.out
    site: Any = cli("explain", solved, "--site", f"blocks.{index}.q", "--json").json
    assert site["schema_version"] == 1
    assert [choice["name"] for block in site["blocks"] for choice in block["sites"]] == [f"blocks.{index}.q"]
    assert cli("explain", solved, "--site", "tables").out.startswith("tables: ")
    assert cli("explain", solved, "--block", 9).code == 2
    wrong = cli("explain", solved, "--site", f"blocks.{index}.qq")
    assert wrong.code == 2
    assert f"blocks.{index}.q" in wrong.err


def test_an_edit_by_hand_is_explained_against_the_search(solved: Path, cli: Cli) -> None:
    edit(solved, 'table_kernel = "int4', 'table_kernel = "int8')
    told: Any = cli("explain", solved, "--json").json
    assert told["is_edited"] is True
    assert [entry["name"] for entry in told["departures"]] == ["tables"]
    assert told["departures"][0]["disk_bytes"] > 0
    assert told["predicted"] == "not_met"
    shown = cli("explain", solved).out
    assert "Written by hand: 1 departure" in shown
    assert "miss the limit on disk" in shown


@pytest.mark.parametrize("verb", ["explain", "compress"])
def test_a_mistake_in_the_recipe_is_named_with_its_line_by_every_verb(solved: Path, cli: Cli, verb: str) -> None:
    line = edit(solved, "table_kernel = ", "table_kernle = ")
    answer = cli(verb, solved)
    assert answer.code == 2
    assert f"recipe.toml:{line}: " in answer.err
    assert "table_kernle" in answer.err


def test_searching_again_keeps_what_was_edited_even_when_it_is_broken(solved: Path, cli: Cli) -> None:
    edit(solved, "table_kernel = ", "# mine\ntable_kernle = ")
    text = (solved / "recipe.toml").read_text()
    assert cli("search", solved).code == 0
    assert (solved / "recipe.edited.toml").read_text() == text
    assert recipe_of(solved).technique == "auto"


def test_a_recipe_elsewhere_needs_its_run(solved: Path, cli: Cli, tmp_path: Path) -> None:
    elsewhere = tmp_path / "mine.toml"
    elsewhere.write_text((solved / "recipe.toml").read_text())
    answer = cli("explain", elsewhere)
    assert answer.code == 2
    assert "--run" in answer.err
    told: Any = json.loads(cli("explain", elsewhere, "--run", solved, "--json").out)
    assert told["source"] == str(elsewhere)
    assert cli("explain", tmp_path / "nothing").code == 2


def test_a_run_that_found_nothing_has_nothing_to_explain(run: Path, cli: Cli) -> None:
    assert cli("explain", run).code == 2
    assert cli("search", run, "--disk", "20kB").code == 1
    answer = cli("explain", run)
    assert answer.code == 2
    assert "disk" in answer.err
    assert DISK_BYTES > 20_000
