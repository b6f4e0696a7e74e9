"""The key of an evaluation changes with whatever changes the measured loss, and with nothing else."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from edgeprune.artifacts import RunFolder
from edgeprune.pipeline.evaluations import EvaluationStore, edits_hash, keyed
from edgeprune.schema.recipe import KeepChannels, KeepTokens, Recipe, SiteEdit
from edgeprune.schema.residuals import Evaluation, EvaluationTask

RECIPE = Recipe(
    model_hash="m",
    context_tokens=64,
    drop_blocks=(1, 2),
    drop_attention=(0,),
    keep_tokens=KeepTokens(kept_count=300),
    keep_channels=(KeepChannels(block=0, kept_count=64), KeepChannels(block=3, kept_count=32)),
    table_kernel="int8_b32_a4",
    sites=(SiteEdit(name="blocks.0.q", kernel="int4_b32_a4", rank=8), SiteEdit(name="blocks.0.k", kernel="fp16")),
)
TASK = EvaluationTask(
    key="",
    recipe_hash="",
    model="/models/a",
    model_hash="m",
    stats="/run/stats.safetensors",
    stats_hash="s",
    texts="/run/texts",
    texts_hash="t",
    window_tokens=128,
    token_limit=1000,
    recipe=RECIPE,
)


@pytest.mark.parametrize(
    "changed",
    [
        replace(RECIPE, technique="mine", seed=7, context_tokens=32),
        replace(RECIPE, sites=RECIPE.sites[::-1], keep_channels=RECIPE.keep_channels[::-1], drop_blocks=(2, 1)),
        replace(RECIPE, sites=(*RECIPE.sites, SiteEdit(name="blocks.0.v"))),
        replace(RECIPE, table_kernel="int8_b32_a0"),
    ],
    ids=["labels", "order", "a dense site", "accuracy level of activations"],
)
def test_what_leaves_the_weights_alone_keeps_the_key(changed: Recipe) -> None:
    assert keyed(replace(TASK, recipe=changed)).key == keyed(TASK).key


@pytest.mark.parametrize(
    "changed",
    [
        replace(RECIPE, model_hash="other"),
        replace(RECIPE, drop_blocks=(1,)),
        replace(RECIPE, drop_attention=()),
        replace(RECIPE, drop_mlp=(3,)),
        replace(RECIPE, keep_tokens=None),
        replace(RECIPE, keep_tokens=KeepTokens(kept_count=301)),
        replace(RECIPE, keep_channels=RECIPE.keep_channels[:1]),
        replace(RECIPE, table_kernel="int4_b32_a4"),
        replace(RECIPE, sites=(replace(RECIPE.sites[0], rank=9), RECIPE.sites[1])),
        replace(RECIPE, sites=(replace(RECIPE.sites[0], method="laser"), RECIPE.sites[1])),
        replace(RECIPE, sites=(replace(RECIPE.sites[0], kernel="int4_b64_a4"), RECIPE.sites[1])),
        replace(RECIPE, sites=RECIPE.sites[:1]),
    ],
)
def test_every_edit_is_in_the_key(changed: Recipe) -> None:
    assert edits_hash(changed) != edits_hash(RECIPE)
    assert keyed(replace(TASK, recipe=changed)).key != keyed(TASK).key


@pytest.mark.parametrize(
    "fields",
    [
        {"model_hash": "other"},
        {"stats_hash": "other"},
        {"texts_hash": "other"},
        {"window_tokens": 64},
        {"token_limit": 999},
        {"general_token_limit": 5},
        {"questions": "q.jsonl", "questions_hash": "q"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_everything_else_a_loss_depends_on_is_in_the_key(fields: dict[str, object]) -> None:
    assert keyed(replace(TASK, **fields)).key != keyed(TASK).key


def test_where_files_stand_is_not_in_the_key() -> None:
    moved = replace(TASK, model="/elsewhere", stats="/elsewhere/stats", texts="/elsewhere/texts")
    assert keyed(moved).key == keyed(TASK).key


def test_a_finished_evaluation_is_found_again_and_a_damaged_one_is_not(tmp_path: Path) -> None:
    task = keyed(TASK)
    store = EvaluationStore(RunFolder(tmp_path))
    assert store.get(task.key) is None
    done = Evaluation(
        key=task.key,
        recipe_hash=task.recipe_hash,
        recipe=task.recipe,
        loss_increase_nats=0.25,
        relative_loss=0.1,
        token_limit=1000,
        scored_tokens=900,
    )
    store.put(done)
    assert EvaluationStore(RunFolder(tmp_path)).get(task.key) == done
    path = store.path(task.key)
    path.write_bytes(path.read_bytes()[:40])
    assert store.get(task.key) is None
    store.put(replace(done, key="another"))
    store.path("another").rename(path)
    assert store.get(task.key) is None
