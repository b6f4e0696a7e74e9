import dataclasses
import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from edgeprune.calibrate.selection import prepare_selection
from edgeprune.calibrate.statistics import CalibrationStats
from edgeprune.calibrate.token_bytes import token_byte_lengths
from edgeprune.calibrate.vocabulary import can_trim, mandatory_count, token_order, trim_tokenizer_json
from edgeprune.calibrate.vocabulary_scores import vocabulary_menu, vocabulary_options
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.events import NullProgress
from tests.tiny import TINY_TEXT

HARD_TEXT = "naïve café, 42 %\n\tdef f(x): ☃ 日本"


@pytest.fixture
def counted(llama: LoadedModel, stats: CalibrationStats) -> CalibrationStats:
    """Counts of the real text, of which the model's own statistics know nothing."""
    ids = torch.tensor(llama.tokenizer.encode(TINY_TEXT).ids)
    general = torch.tensor(llama.tokenizer.encode("A school, a mill and a market.").ids)
    return dataclasses.replace(
        stats,
        token_count=torch.bincount(ids, minlength=512),
        general_token_count=torch.bincount(general, minlength=512),
    )


def tokenizer_json(loaded: LoadedModel) -> dict[str, object]:
    content = json.loads(loaded.tokenizer.to_str())
    assert isinstance(content, dict)
    return content


def test_order_holds_every_token_once_and_starts_with_what_must_stay(
    llama: LoadedModel, counted: CalibrationStats
) -> None:
    order = token_order(counted, llama.tokenizer).tolist()
    assert sorted(order) == list(range(512))
    mandatory = mandatory_count(tokenizer_json(llama))
    assert mandatory == 257
    assert 0 in order[:mandatory]


def test_used_tokens_come_before_unused_ones_that_none_of_them_needs(
    llama: LoadedModel, counted: CalibrationStats
) -> None:
    used = set(llama.tokenizer.encode("The patient was given two tablets in the morning.").ids)
    few = torch.zeros(512, dtype=torch.int64)
    few[list(used)] = 1
    stats = dataclasses.replace(counted, token_count=few, general_token_count=torch.zeros_like(few))
    order = token_order(stats, llama.tokenizer).tolist()
    vocabulary = llama.tokenizer.get_vocab()
    merged = {left + right: (left, right) for left, right in json.loads(llama.tokenizer.to_str())["model"]["merges"]}
    needed, waiting = set(), [llama.tokenizer.id_to_token(index) for index in used]
    while waiting:
        token = waiting.pop()
        needed.add(vocabulary[token])
        waiting += merged.get(token, ())
    assert set(order[: len(needed | set(order[:257]))]) == needed | set(order[:257])


@pytest.mark.parametrize("kept_count", [257, 300, 400, 511])
def test_trimmed_tokenizer_loses_no_text_and_builds_every_token_it_keeps(
    llama: LoadedModel, counted: CalibrationStats, kept_count: int
) -> None:
    original = tokenizer_json(llama)
    kept = np.sort(token_order(counted, llama.tokenizer)[:kept_count])
    trimmed = Tokenizer.from_str(json.dumps(trim_tokenizer_json(original, kept.tolist())))
    assert trimmed.get_vocab_size(with_added_tokens=True) == kept_count
    for text in (TINY_TEXT, HARD_TEXT, "<|endoftext|>after"):
        ids = trimmed.encode(text, add_special_tokens=False).ids
        assert trimmed.decode(ids, skip_special_tokens=False) == text
        # Kept tokens are spelled as before: row i of the trimmed table is row kept[i] of the full one.
        assert [trimmed.id_to_token(i) for i in ids] == [llama.tokenizer.id_to_token(int(kept[i])) for i in ids]
    for index in range(kept_count):
        token = trimmed.id_to_token(index)
        if index != 0:
            model = Tokenizer.from_str(trimmed.to_str())
            assert model.model.tokenize(token)[0].value == token


def test_keeping_everything_changes_nothing(llama: LoadedModel) -> None:
    original = tokenizer_json(llama)
    assert trim_tokenizer_json(original, range(512)) == original


def test_merges_written_as_strings_and_post_processors_are_followed(llama: LoadedModel) -> None:
    original = tokenizer_json(llama)
    model = original["model"]
    assert isinstance(model, dict)
    model["merges"] = [" ".join(merge) for merge in model["merges"]]
    original["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [],
        "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [511], "tokens": ["<|endoftext|>"]}},
    }
    trimmed = trim_tokenizer_json(original, [*range(400), 511])
    assert trimmed["post_processor"]["special_tokens"]["<|endoftext|>"]["ids"] == [400]
    assert trimmed["post_processor"]["special_tokens"]["<|endoftext|>"]["id"] == "<|endoftext|>"
    assert 0 < len(trimmed["model"]["merges"]) < len(model["merges"])


def test_measured_options_cost_more_tokens_the_fewer_are_kept(llama: LoadedModel, counted: CalibrationStats) -> None:
    documents = [TINY_TEXT] * 2
    encoded = [llama.tokenizer.encode(text).ids for text in documents]
    selection = prepare_selection(
        llama,
        documents,
        encoded,
        byte_lengths=token_byte_lengths(llama.tokenizer),
        window_tokens=64,
        limit_tokens=10_000,
        progress=NullProgress(),
    )
    table = llama.adapter.embedding(llama.model).weight
    before = table.detach().clone()
    address = table.data_ptr()
    options = vocabulary_options(llama, counted, selection, progress=NullProgress(), general=selection)
    assert table.data_ptr() == address
    assert torch.equal(table, before)
    assert [option.kept_count for option in options] == sorted({option.kept_count for option in options})
    inflation = [option.token_inflation for option in options]
    assert inflation == sorted(inflation, reverse=True)
    assert inflation[0] > 1
    assert all(np.isfinite(option.loss_increase_nats) for option in options)
    assert [option.general_token_inflation for option in options] == inflation
    covered = [option.coverage for option in options if option.coverage is not None]
    assert len(covered) == len(options)
    assert covered == sorted(covered)
    assert 0 < covered[0] < 1
    smallest = token_order(counted, llama.tokenizer)[: options[0].kept_count]
    ids = [token for text in documents for token in llama.tokenizer.encode(text).ids]
    assert covered[0] == pytest.approx(np.isin(ids, smallest).mean())


def test_menu_stays_between_what_must_stay_and_what_there_is() -> None:
    assert vocabulary_menu(row_count=8192, token_count=8192, used_count=5100, mandatory=258) == (
        2048,
        3072,
        4096,
        5120,
        6144,
    )
    assert 2016 in (menu := vocabulary_menu(row_count=4096, token_count=4096, used_count=2010, mandatory=258))
    assert 2048 not in menu
    assert vocabulary_menu(row_count=320, token_count=300, used_count=280, mandatory=258) == (288, 300)


def test_other_tokenizers_are_left_alone(llama: LoadedModel) -> None:
    assert can_trim(tokenizer_json(llama))
    assert not can_trim({"model": {"type": "Unigram", "vocab": []}})
    assert not can_trim({"model": {"type": "BPE", "byte_fallback": True, "vocab": {"a": 0}, "merges": []}})


def test_token_bytes_add_up_to_the_text(llama: LoadedModel) -> None:
    lengths = token_byte_lengths(llama.tokenizer)
    for text in (TINY_TEXT, HARD_TEXT):
        ids = llama.tokenizer.encode(text, add_special_tokens=False).ids
        assert int(lengths[ids].sum()) == len(text.encode())
    assert lengths[0] == len("<|endoftext|>")
