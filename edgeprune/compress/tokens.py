"""Vocabulary pruning: rows leave the tables, and the tokenizer learns to do without them.

Takes the number of tokens to keep; which ones follows from the calibration counts (`token_order`: special tokens and
the 256 bytes first, closed under merges). Kept rows stay in ascending order of their old ids. Special ids in the spec,
the configuration and the generation settings follow. Keeps true: any text still encodes and decodes without loss, and
text that used only kept tokens encodes to the same tokens as before.
"""

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from msgspec.structs import replace as edit_record
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from edgeprune.calibrate.statistics import CalibrationStats
from edgeprune.calibrate.vocabulary import can_trim, mandatory_count, token_order, trim_tokenizer_json
from edgeprune.compress.passes import Work
from edgeprune.compress.tokenizer_files import tokenizer_files
from edgeprune.errors import UsageError
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.recipe import Recipe

__all__ = ["TrimVocabulary", "kept_token_ids", "remap_windows", "trimmed_tokenizer"]

NewIds = dict[int, int]
"""Old id -> new id, kept tokens only."""


def kept_token_ids(loaded: LoadedModel, stats: CalibrationStats, kept_count: int) -> NDArray[np.int64]:
    """[kept_count] ids that stay, ascending.

    Raises:
        UsageError: the tokenizer cannot be trimmed, or not to that count.
    """
    tokenizer_json = json.loads(loaded.tokenizer.to_str())
    if not can_trim(tokenizer_json):
        raise UsageError(
            "recipe keep_tokens: the tokenizer is no BPE or Unigram with all 256 bytes, so removing tokens would lose "
            "text; take keep_tokens out of the recipe."
        )
    order = token_order(stats, loaded.tokenizer)
    fewest = mandatory_count(tokenizer_json)
    if not fewest <= kept_count <= len(order):
        raise UsageError(
            f"recipe keep_tokens: kept_count {kept_count} must lie in {fewest}..{len(order)}, from the special tokens "
            "and bytes alone to every token of the tokenizer."
        )
    kept = order[:kept_count]
    lost = [token for token in _special_ids(loaded) if token not in kept]
    if lost:
        raise UsageError(
            f"recipe keep_tokens: kept_count {kept_count} would remove token {lost[0]}, which begins or ends text; "
            f"keep at least {int(np.flatnonzero(np.isin(order, lost)).max()) + 1}."
        )
    return np.sort(kept)


def trimmed_tokenizer(tokenizer: Tokenizer, kept: NDArray[np.int64]) -> Tokenizer:
    """The tokenizer that knows only those ids, renumbered in ascending order."""
    trimmed = trim_tokenizer_json(json.loads(tokenizer.to_str()), set(kept.tolist()))
    return Tokenizer.from_str(json.dumps(trimmed))


def remap_windows(windows: Tensor, old: Tokenizer, new: Tokenizer, new_ids: NewIds) -> Tensor:
    """Token windows in the new ids, [m, seq] int32.

    A window that uses removed tokens is written out and encoded again, which makes it longer; all windows are then
    joined and cut anew to the same length. Less than one window at the end is dropped.
    """
    if not windows.numel():
        return windows
    pieces = []
    for window in windows.tolist():
        if all(token in new_ids for token in window):
            pieces.append([new_ids[token] for token in window])
        else:
            text = old.decode(window, skip_special_tokens=False)
            pieces.append(new.encode(text, add_special_tokens=False).ids)
    if all(len(piece) == windows.shape[1] for piece in pieces):
        return torch.tensor(pieces, dtype=torch.int32)
    stream = [token for piece in pieces for token in piece]
    count = len(stream) // windows.shape[1]
    return torch.tensor(stream[: count * windows.shape[1]], dtype=torch.int32).view(count, windows.shape[1])


@dataclass(frozen=True)
class TrimVocabulary:
    """The pass."""

    name: str = "tokens"
    reads_stats: bool = False
    changes_inputs: bool = False
    """Rows that stay are unchanged; only text that used removed tokens reads differently, which `apply` marks."""

    def part(self, applied: Recipe, recipe: Recipe) -> Recipe:
        """Adds the kept tokens."""
        return edit_record(applied, keep_tokens=recipe.keep_tokens)

    def apply(self, work: Work, recipe: Recipe) -> None:
        """Exchange tables and tokenizer."""
        assert recipe.keep_tokens is not None
        loaded, stats = work.loaded, work.stats
        if recipe.keep_tokens.kept_count == loaded.spec.vocab_size:
            return
        kept = kept_token_ids(loaded, stats, recipe.keep_tokens.kept_count)
        rows = torch.from_numpy(kept)
        new_ids = {int(old): new for new, old in enumerate(kept)}
        model, adapter = loaded.model, loaded.adapter
        head = None if loaded.spec.is_tied else adapter.head(model).weight[rows]
        adapter.set_tables(model, adapter.embedding(model).weight[rows], head)
        _renumber_settings(model.config, new_ids)
        if model.generation_config is not None:
            _renumber_settings(model.generation_config, new_ids)
        tokenizer = trimmed_tokenizer(loaded.tokenizer, kept)
        tokens = remap_windows(stats.tokens, loaded.tokenizer, tokenizer, new_ids)
        uses_removed = not bool(torch.isin(stats.tokens.long(), rows).all())
        work.stats = replace(
            stats,
            tokens=tokens,
            general_tokens=remap_windows(stats.general_tokens, loaded.tokenizer, tokenizer, new_ids),
            token_count=stats.token_count[rows],
            general_token_count=stats.general_token_count[rows],
        )
        work.is_stale = work.is_stale or uses_removed
        spec = edit_record(
            loaded.spec,
            bos_token_id=_renumbered(loaded.spec.bos_token_id, new_ids),
            eos_token_ids=tuple(new_ids[token] for token in loaded.spec.eos_token_ids if token in new_ids),
            pad_token_id=_renumbered(loaded.spec.pad_token_id, new_ids),
        )
        edited = replace(loaded, tokenizer=tokenizer, spec=spec)
        written = tokenizer_files(edited, is_trimmed=True)
        spec = edit_record(spec, tokenizer_bytes=sum(map(len, written.values())))
        work.loaded = replace(edited, spec=spec)


def _special_ids(loaded: LoadedModel) -> set[int]:
    """Ids the model cannot generate without; padding may go."""
    known = {loaded.spec.bos_token_id, *loaded.spec.eos_token_ids}
    return {token for token in known if token is not None and loaded.tokenizer.id_to_token(token) is not None}


def _renumber_settings(settings: Any, new_ids: NewIds) -> None:
    """Every `*_token_id` of a configuration; lists keep the ids that still exist."""
    for key, value in list(vars(settings).items()):
        if key.endswith("_token_id"):
            setattr(settings, key, _renumbered(value, new_ids))


def _renumbered(value: Any, new_ids: NewIds) -> Any:
    if isinstance(value, list):
        return [new_ids[token] for token in value if token in new_ids]
    return new_ids.get(value) if isinstance(value, int) else value
