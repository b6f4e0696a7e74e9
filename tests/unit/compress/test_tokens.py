"""Vocabulary pruning: what is kept reads as before, nothing readable is lost."""

import numpy as np
import pytest
import torch

from edgeprune.compress.apply import compress_model
from edgeprune.compress.tokenizer_files import tokenizer_files
from edgeprune.compress.tokens import kept_token_ids, remap_windows, trimmed_tokenizer
from edgeprune.errors import UsageError
from edgeprune.schema.events import NullProgress
from edgeprune.schema.recipe import KeepTokens
from tests.tiny import TINY_TEXT
from tests.unit.compress.recipes import Tiny, no_edit

_STRANGE = "Zwölf Boxkämpfer 漢字 🚀 \x00\n\t<|endoftext|> the patient"


def test_text_of_kept_tokens_reads_the_same_and_any_text_survives(tiny_llama: Tiny) -> None:
    loaded, stats = tiny_llama
    kept = kept_token_ids(loaded, stats, 400)
    trimmed = trimmed_tokenizer(loaded.tokenizer, kept)
    assert trimmed.get_vocab_size() == 400
    new_ids = {int(old): new for new, old in enumerate(kept)}
    words = {word for word in TINY_TEXT.split() if set(loaded.tokenizer.encode(" " + word).ids) <= set(new_ids)}
    assert len(words) > 20
    for word in words:
        ids = loaded.tokenizer.encode(" " + word).ids
        assert trimmed.encode(" " + word).ids == [new_ids[token] for token in ids]
    for text in (TINY_TEXT, _STRANGE):
        ids = trimmed.encode(text, add_special_tokens=False).ids
        assert max(ids) < 400
        assert trimmed.decode(ids, skip_special_tokens=False) == text


def test_rows_and_special_ids_follow_their_tokens(tiny: Tiny) -> None:
    loaded, stats = tiny
    edited = compress_model(
        loaded, no_edit(loaded, keep_tokens=KeepTokens(kept_count=300)), stats, progress=NullProgress()
    )
    assert edited.spec.vocab_size == edited.model.config.vocab_size == 300
    old_rows, new_rows = (
        (entry.adapter.embedding(entry.model).weight, entry.adapter.head(entry.model).weight)
        for entry in (loaded, edited)
    )
    for token, new in edited.tokenizer.get_vocab().items():
        old = loaded.tokenizer.token_to_id(token)
        assert torch.equal(new_rows[0][new], old_rows[0][old])
        assert torch.equal(new_rows[1][new], old_rows[1][old])
    end = edited.tokenizer.token_to_id("<|endoftext|>")
    assert edited.spec.eos_token_ids == (end,)
    assert edited.model.config.eos_token_id == end
    assert edited.model.generation_config.eos_token_id == end
    assert edited.adapter.is_tied(edited.model) == loaded.spec.is_tied
    written = tokenizer_files(edited, is_trimmed=True)
    assert edited.spec.tokenizer_bytes == sum(map(len, written.values())) < loaded.spec.tokenizer_bytes


def test_logits_of_kept_tokens_do_not_change(tiny: Tiny) -> None:
    loaded, stats = tiny
    kept = kept_token_ids(loaded, stats, 420)
    edited = compress_model(
        loaded, no_edit(loaded, keep_tokens=KeepTokens(kept_count=420)), stats, progress=NullProgress()
    )
    old = torch.from_numpy(kept[::21].copy())[None]
    new = torch.from_numpy(np.arange(420)[::21].copy())[None]
    with torch.no_grad():
        expected = loaded.model(old).logits[..., kept]
        torch.testing.assert_close(edited.model(new).logits, expected)


def test_windows_are_read_again_where_they_used_removed_tokens(tiny_llama: Tiny) -> None:
    loaded, _ = tiny_llama
    kept = np.array([token for token in range(512) if token % 2 == 0 or token < 300])
    trimmed = trimmed_tokenizer(loaded.tokenizer, kept)
    windows = torch.tensor([[0, 2, 310, 498], [1, 301, 303, 4]], dtype=torch.int32)
    new_ids = {int(old): new for new, old in enumerate(kept)}
    remapped = remap_windows(windows, loaded.tokenizer, trimmed, new_ids)
    text = loaded.tokenizer.decode(windows.flatten().tolist(), skip_special_tokens=False)
    again = trimmed.decode(remapped.flatten().tolist(), skip_special_tokens=False)
    assert text.startswith(again)
    assert remapped.shape[1] == 4
    assert remapped[0].tolist() == [new_ids[token] for token in (0, 2, 310, 498)]
    whole = remap_windows(windows[:1], loaded.tokenizer, trimmed, new_ids)
    assert whole.tolist() == [[new_ids[token] for token in (0, 2, 310, 498)]]


@pytest.mark.parametrize("kept_count", [10, 256])
def test_fewer_than_the_bytes_is_refused(tiny_llama: Tiny, kept_count: int) -> None:
    loaded, stats = tiny_llama
    with pytest.raises(UsageError, match=r"keep_tokens: kept_count \d+ must lie in 257\.\.512"):
        compress_model(
            loaded, no_edit(loaded, keep_tokens=KeepTokens(kept_count=kept_count)), stats, progress=NullProgress()
        )


def test_keeping_every_row_changes_nothing(tiny_llama: Tiny) -> None:
    loaded, stats = tiny_llama
    edited = compress_model(
        loaded, no_edit(loaded, keep_tokens=KeepTokens(kept_count=512)), stats, progress=NullProgress()
    )
    assert edited.tokenizer.to_str() == loaded.tokenizer.to_str()
