"""Vocabularies of SentencePiece's kinds: trimmed, they lose no text, and text of kept tokens reads as before."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from edgeprune.calibrate.capture import capture
from edgeprune.calibrate.selection import prepare_selection
from edgeprune.calibrate.token_bytes import token_byte_lengths
from edgeprune.calibrate.vocabulary import can_trim, last_merge, mandatory_count, token_order, trim_tokenizer_json
from edgeprune.calibrate.vocabulary_scores import vocabulary_options
from edgeprune.intake.load import load_model
from edgeprune.schema.events import NullProgress
from tests.tiny import TINY_TEXT, write_tiny_llama
from tests.tiny_sentencepiece import BYTES, SIZE, SPECIALS, Kind, sentencepiece_json, write_sentencepiece

TEXTS = (TINY_TEXT, "naïve café 日本 🚀\n\tx", "  two  spaces", "a", "</s>after", "漢▁字", "")
KINDS: tuple[Kind, ...] = ("BPE", "Unigram")


def closed(content: dict[str, object], wanted: set[str]) -> set[int]:
    """Ids of those tokens, of what they are merged from when read alone, and of what must stay."""
    model = content["model"]
    assert isinstance(model, dict)
    names = [name for name, _ in model["vocab"]] if model["type"] == "Unigram" else list(model["vocab"])
    kept = {*SPECIALS, *BYTES, "▁"}
    if model["type"] == "Unigram":
        kept.add(min(model["vocab"], key=lambda entry: entry[1])[0])
    ranks = {tuple(pair): rank for rank, pair in reversed(list(enumerate(model.get("merges", ()))))}
    waiting = [*wanted]
    while waiting:
        token = waiting.pop()
        kept.add(token)
        waiting += last_merge(token, ranks) or ()
    return {names.index(token) for token in kept}


def spelled(tokenizer: Tokenizer, text: str) -> list[str]:
    tokens: list[str] = tokenizer.encode(text, add_special_tokens=False).tokens
    return tokens


@pytest.mark.parametrize("kind", KINDS)
def test_what_must_stay_is_little_and_stays(kind: Kind) -> None:
    content = json.loads(sentencepiece_json(kind))
    assert can_trim(content)
    # Specials, bytes, the word mark; of a Unigram its least likely token too.
    assert mandatory_count(content) == 3 + 256 + 1 + (kind == "Unigram")


@pytest.mark.parametrize("kind", KINDS)
def test_without_bytes_or_without_falling_back_to_them_nothing_is_trimmed(kind: Kind) -> None:
    content = json.loads(sentencepiece_json(kind))
    assert not can_trim({**content, "model": {**content["model"], "byte_fallback": False}})
    vocabulary = content["model"]["vocab"]
    if kind == "BPE":
        fewer = {token: index for token, index in vocabulary.items() if token != "<0x41>"}
    else:
        fewer = [entry for entry in vocabulary if entry[0] != "<0x41>"]
    assert not can_trim({**content, "model": {**content["model"], "vocab": fewer}})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(6))
def test_any_text_survives_and_text_of_kept_tokens_reads_the_same(kind: Kind, seed: int) -> None:
    content = json.loads(sentencepiece_json(kind))
    original = Tokenizer.from_str(json.dumps(content))
    rng = np.random.default_rng(seed)
    sentences = [sentence.strip() for sentence in TINY_TEXT.replace("\n", " ").split(".") if sentence.strip()]
    chosen = [sentences[index] for index in rng.choice(len(sentences), 2, replace=False)]
    kept = closed(content, {token for sentence in chosen for token in spelled(original, sentence)})
    assert len(kept) < SIZE - 60
    trimmed = Tokenizer.from_str(json.dumps(trim_tokenizer_json(content, kept)))
    assert trimmed.get_vocab_size(with_added_tokens=True) == len(kept)
    for sentence in chosen:
        assert spelled(trimmed, sentence) == spelled(original, sentence)
    # Every kept id means what it meant: row i of the trimmed table is row kept[i] of the full one.
    assert [trimmed.id_to_token(new) for new in range(len(kept))] == [original.id_to_token(old) for old in sorted(kept)]
    for text in TEXTS:
        ids = trimmed.encode(text).ids
        assert ids[:1] == [trimmed.token_to_id("<s>")]
        assert trimmed.decode(ids) == original.decode(original.encode(text).ids)


@pytest.mark.parametrize("kind", KINDS)
def test_the_search_gets_measured_options(kind: Kind, tmp_path: Path) -> None:
    loaded = load_model(write_sentencepiece(write_tiny_llama(tmp_path / "model"), kind))
    encoded = [loaded.tokenizer.encode(TINY_TEXT, add_special_tokens=False).ids]
    stats = capture(loaded, torch.tensor(encoded[0][:256]).view(8, 32).int(), gradient_tokens=0)
    selection = prepare_selection(
        loaded,
        [TINY_TEXT],
        encoded,
        byte_lengths=token_byte_lengths(loaded.tokenizer),
        window_tokens=32,
        limit_tokens=1_000,
        progress=NullProgress(),
    )
    options = vocabulary_options(loaded, stats, selection, progress=NullProgress())
    assert options
    inflation = [option.token_inflation for option in options]
    assert inflation == sorted(inflation, reverse=True)
    assert all(np.isfinite(option.loss_increase_nats) for option in options)
    order = token_order(stats, loaded.tokenizer)
    assert sorted(order.tolist()) == list(range(SIZE))
    assert {0, 1, 2} <= set(order[: mandatory_count(json.loads(sentencepiece_json(kind)))].tolist())


def test_a_token_is_merged_from_what_reading_it_alone_merges_last() -> None:
    ranks = {("b", "c"): 0, ("a", "b"): 1, ("ab", "c"): 2, ("a", "bc"): 3, ("d", "d"): 4}
    # The earliest listed split of `abc` is ab + c, but b + c is merged before a + b can be.
    assert last_merge("abc", ranks) == ("a", "bc")
    assert last_merge("ddd", ranks) is None
    assert last_merge("a", ranks) is None
