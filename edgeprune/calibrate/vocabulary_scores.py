"""Measured loss of keeping that many tokens.

Selection text is encoded again with the trimmed tokenizer, and the dense model runs with the kept rows of its tables
only, so the softmax is over kept tokens. Windows of the two tokenisations score slightly different bytes, so losses are
compared per byte and given per token of the dense tokenizer:

    increase = (nats' / bytes' - nats / bytes) * bytes / tokens                                   (1)
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from edgeprune.calibrate.corpus import encode
from edgeprune.calibrate.loss import cut_windows, measure_loss
from edgeprune.calibrate.selection import Selection
from edgeprune.calibrate.statistics import CalibrationStats
from edgeprune.calibrate.token_bytes import token_byte_lengths
from edgeprune.calibrate.vocabulary import can_trim, mandatory_count, token_order, trim_tokenizer_json
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.events import Progress
from edgeprune.schema.scores import VocabularyOption

__all__ = ["vocabulary_menu", "vocabulary_options"]

_ALIGNMENT = 32
_KEPT_EIGHTHS = (6, 4, 3, 2)


def vocabulary_options(
    loaded: LoadedModel,
    stats: CalibrationStats,
    selection: Selection,
    *,
    progress: Progress,
    general: Selection | None = None,
) -> tuple[VocabularyOption, ...]:
    """Options with measured losses, ascending by kept count; none where the tokenizer cannot be trimmed."""
    tokenizer_json = json.loads(loaded.tokenizer.to_str())
    if not can_trim(tokenizer_json):
        return ()
    order = token_order(stats, loaded.tokenizer)
    uses = _uses(loaded, selection.documents)
    general_uses = _uses(loaded, () if general is None else general.documents)
    used_count = int((stats.token_count[torch.from_numpy(order)] > 0).nonzero().max()) + 1
    options = []
    for kept_count in vocabulary_menu(
        row_count=loaded.spec.vocab_size,
        token_count=len(order),
        used_count=used_count,
        mandatory=mandatory_count(tokenizer_json),
    ):
        progress.raise_if_cancelled()
        kept = np.sort(order[:kept_count])
        trimmed = Tokenizer.from_str(json.dumps(trim_tokenizer_json(tokenizer_json, kept.tolist())))
        with _kept_rows(loaded, kept):
            increase, token_count = _measure(loaded, trimmed, selection, progress)
            elsewhere = None if general is None else _measure(loaded, trimmed, general, progress)
        options.append(
            VocabularyOption(
                kept_count=kept_count,
                loss_increase_nats=increase,
                token_inflation=token_count / max(1, int(uses.sum())),
                general_loss_increase_nats=None if elsewhere is None else elsewhere[0],
                coverage=_coverage(uses, kept),
                general_coverage=_coverage(general_uses, kept),
                general_token_inflation=None if elsewhere is None else elsewhere[1] / max(1, int(general_uses.sum())),
                tokenizer_bytes=len(trimmed.to_str().encode()),
            )
        )
    return tuple(options)


def _measure(loaded: LoadedModel, trimmed: Tokenizer, selection: Selection, progress: Progress) -> tuple[float, int]:
    """Increase per token of the dense tokenizer, and the tokens the trimmed one needs."""
    encoded = encode(trimmed, selection.documents)
    windows = cut_windows(encoded, selection.window_tokens)
    nats, _ = measure_loss(loaded, windows, progress=progress)
    byte_lengths = token_byte_lengths(trimmed)
    scored_bytes = sum(int(byte_lengths[window[1:]].sum()) for window in windows)
    per_byte = nats / scored_bytes - selection.nats / selection.scored_bytes
    increase = per_byte * selection.scored_bytes / selection.scored_tokens  # eq. (1)
    return increase, sum(map(len, encoded))


def vocabulary_menu(*, row_count: int, token_count: int, used_count: int, mandatory: int) -> tuple[int, ...]:
    """Kept counts to measure, ascending: shares of the tokens, and just enough for all that calibration text uses.

    A share within a thirty-second of the vocabulary of that count would be measured for nothing and is left out.
    A table with more rows than the tokenizer has tokens (padding) may also keep exactly the tokens.
    """
    shares = [token_count * eighths // 8 for eighths in _KEPT_EIGHTHS]
    wanted = [used_count, *(share for share in shares if abs(share - used_count) > token_count // 32)]
    aligned = {-(-count // _ALIGNMENT) * _ALIGNMENT for count in wanted if count > mandatory}
    menu = {count for count in aligned if mandatory < count < token_count}
    if token_count < row_count:
        menu.add(token_count)
    return tuple(sorted(menu))


@contextmanager
def _kept_rows(loaded: LoadedModel, kept: NDArray[np.int64]) -> Iterator[None]:
    """The tables hold only these rows while the block runs."""
    rows = torch.from_numpy(kept)
    embedding, head = loaded.adapter.embedding(loaded.model), loaded.adapter.head(loaded.model)
    tables = {parameter: parameter.data for parameter in (embedding.weight, head.weight)}
    bias = None if head.bias is None else head.bias.data
    padding = embedding.padding_idx
    try:
        embedding.padding_idx = None  # may lie beyond the kept rows; only training reads it
        for parameter, table in tables.items():
            parameter.data = table[rows]
        if bias is not None:
            head.bias.data = bias[rows]
        yield
    finally:
        embedding.padding_idx = padding
        for parameter, table in tables.items():
            parameter.data = table
        if bias is not None:
            head.bias.data = bias


def _uses(loaded: LoadedModel, documents: Sequence[str]) -> NDArray[np.int64]:
    """[vocab] how often each token of the dense tokenizer stands in the documents."""
    ids = [token for document in encode(loaded.tokenizer, documents) for token in document]
    return np.bincount(np.array(ids, dtype=np.int64), minlength=loaded.spec.vocab_size)


def _coverage(uses: NDArray[np.int64], kept: NDArray[np.int64]) -> float | None:
    """Share of the uses that fall on kept tokens; None where there are none."""
    return float(uses[kept].sum() / uses.sum()) if uses.sum() else None
