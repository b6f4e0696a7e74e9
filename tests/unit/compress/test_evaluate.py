"""What an evaluation measures is what the compressed model really loses on selection text, and nothing else."""

from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from edgeprune.artifacts import hash_file
from edgeprune.calibrate.cache_scales import cache_documents
from edgeprune.calibrate.corpus import encode, pack_windows, separator_token, write_corpus
from edgeprune.calibrate.kv_rounding import measure_cache_scales, rounded_cache
from edgeprune.calibrate.loss import cut_windows, measure_loss
from edgeprune.calibrate.split import Split
from edgeprune.compress.apply import compress_model
from edgeprune.compress.evaluate import evaluate, evaluate_bytes, forget
from edgeprune.schema.events import NullProgress
from edgeprune.schema.recipe import KeepChannels, KeepTokens, Recipe, SiteEdit
from edgeprune.schema.residuals import Evaluation, EvaluationTask
from tests.tiny import TINY_TEXT
from tests.unit.compress.recipes import Tiny

WINDOW = 32


@dataclass(frozen=True)
class Case:
    tiny: Tiny
    task: EvaluationTask
    documents: list[str]


@pytest.fixture
def case(tiny_llama: Tiny, tmp_path: Path) -> Case:
    loaded, stats = tiny_llama
    words = TINY_TEXT.split()
    pieces = [" ".join(words[start : start + 40]) for start in range(0, len(words), 40)]
    split = Split(calibrate=pieces[:1], select=pieces[1:4], report=["A text that must not be read."])
    write_corpus(tmp_path / "texts", "domain", split)
    write_corpus(tmp_path / "texts", "general", split)
    stats.save(tmp_path / "stats.safetensors")
    forget()
    recipe = Recipe(model_hash=loaded.spec.model_hash, context_tokens=64)
    task = EvaluationTask(
        key="k",
        recipe_hash="r",
        model=str(loaded.folder),
        model_hash=loaded.spec.model_hash,
        stats=str(tmp_path / "stats.safetensors"),
        stats_hash=hash_file(tmp_path / "stats.safetensors"),
        texts=str(tmp_path / "texts"),
        texts_hash="t",
        window_tokens=WINDOW,
        token_limit=10_000,
        recipe=recipe,
    )
    return Case(tiny=tiny_llama, task=task, documents=split.select)


def with_edits(task: EvaluationTask, **edits: object) -> EvaluationTask:
    return replace(task, recipe=replace(task.recipe, **edits))


def test_the_dense_model_loses_nothing(case: Case) -> None:
    found = evaluate(case.task)
    assert found.loss_increase_nats == 0.0
    assert found.relative_loss == 0.0
    assert found.general_loss_increase_nats is None
    assert found.accuracy is None


def test_a_recipe_with_an_8_bit_cache_is_measured_with_it(case: Case) -> None:
    found = evaluate(with_edits(case.task, kv_bits=8))
    loaded, _ = case.tiny
    windows = cut_windows(encode(loaded.tokenizer, case.documents), WINDOW)
    dense, count = measure_loss(loaded, windows)
    calibration = pack_windows(
        encode(loaded.tokenizer, cache_documents(Path(case.task.texts))),
        separator=separator_token(loaded.spec),
        window_tokens=WINDOW,
        limit_tokens=10_000,
    )
    with rounded_cache(loaded, measure_cache_scales(loaded, calibration)):
        rounded, _ = measure_loss(loaded, windows)
    assert found.loss_increase_nats == pytest.approx((rounded - dense) / count, abs=2e-6)
    assert found.loss_increase_nats != 0.0


def test_the_loss_is_that_of_the_compressed_model_on_selection_text(case: Case) -> None:
    task = with_edits(
        case.task,
        drop_blocks=(1,),
        keep_channels=(KeepChannels(block=2, kept_count=64),),
        table_kernel="int8_b32_a4",
        sites=(SiteEdit(name="blocks.0.q", kernel="int4_b32_a4", rank=16),),
    )
    found = evaluate(task)
    loaded, stats = case.tiny
    windows = cut_windows(encode(loaded.tokenizer, case.documents), WINDOW)
    dense, count = measure_loss(loaded, windows)
    edited, _ = measure_loss(compress_model(loaded, task.recipe, stats, progress=NullProgress()), windows)
    assert found.loss_increase_nats == pytest.approx((edited - dense) / count, abs=1e-6)
    assert found.relative_loss == pytest.approx(edited / dense - 1.0, abs=1e-6)
    assert found.scored_tokens == count


def test_a_trimmed_vocabulary_is_compared_per_byte(case: Case) -> None:
    """With a smaller vocabulary the same text has more tokens, each of which is easier: per token they look alike."""
    task = with_edits(case.task, keep_tokens=KeepTokens(kept_count=320))
    found = evaluate(task)
    loaded, stats = case.tiny
    edited = compress_model(loaded, task.recipe, stats, progress=NullProgress())
    text = case.documents
    # Every document fits one window each way when windows are long; then the scored bytes differ by first tokens only.
    dense_windows, windows = (cut_windows(encode(t, text), WINDOW) for t in (loaded.tokenizer, edited.tokenizer))
    assert sum(map(len, windows)) > sum(map(len, dense_windows))
    dense_nats, dense_count = measure_loss(loaded, dense_windows)
    nats, count = measure_loss(edited, windows)
    per_token = nats / count - dense_nats / dense_count
    assert found.loss_increase_nats != pytest.approx(per_token, abs=1e-3)

    def scored(tokenizer: object, cut: list[list[int]]) -> int:
        return sum(len(tokenizer.decode(window[1:]).encode()) for window in cut)  # type: ignore[attr-defined]

    dense_bytes, bytes_ = scored(loaded.tokenizer, dense_windows), scored(edited.tokenizer, windows)
    expected = (nats / bytes_) / (dense_nats / dense_bytes) - 1.0
    assert found.relative_loss == pytest.approx(expected, abs=1e-5)


def test_general_loss_and_questions_are_measured_when_asked_for(case: Case, tmp_path: Path) -> None:
    lines = [
        {"prompt": "The river", "choices": [" rises in the hills", " zzz"], "answer": 0},
        {"prompt": "A doctor", "choices": [" lived in the last house", " qq"], "answer": 1},
    ]
    path = tmp_path / "questions.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    task = replace(case.task, general_token_limit=10_000, questions=str(path), questions_hash="q")
    found = evaluate(with_edits(task, drop_blocks=(0,)))
    # The general text is the same here, so its loss must be too.
    assert found.general_loss_increase_nats == found.loss_increase_nats
    assert found.accuracy in (0.0, 0.5, 1.0)
    swapped = [line | {"answer": 1 - int(str(line["answer"]))} for line in lines]
    path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in swapped))
    other = evaluate(with_edits(replace(task, questions_hash="q2"), drop_blocks=(0,)))
    assert other.accuracy == 1.0 - (found.accuracy or 0.0)


def test_the_same_task_gives_the_same_bytes_and_leaves_no_trace(case: Case) -> None:
    task = with_edits(case.task, sites=(SiteEdit(name="blocks.1.down", kernel="int4_b64_a4"),))
    payload = msgspec.json.encode(task)
    first = evaluate_bytes(payload)
    assert evaluate(case.task).loss_increase_nats == 0.0
    assert evaluate_bytes(payload) == first
    forget()
    assert evaluate_bytes(payload) == first
    assert msgspec.json.decode(first, type=Evaluation).loss_increase_nats != 0.0


def test_fewer_tokens_are_scored_under_a_smaller_limit(case: Case) -> None:
    assert evaluate(replace(case.task, token_limit=20)).scored_tokens < evaluate(case.task).scored_tokens
