"""Scales of an 8-bit key-value cache, measured on the calibration text of both kinds: a cache must hold what comes."""

import itertools
from collections.abc import Sequence
from pathlib import Path

from edgeprune.calibrate.corpus import encode, pack_windows, read_split, separator_token
from edgeprune.calibrate.kv_rounding import CacheScales, measure_cache_scales
from edgeprune.errors import CalibrationError
from edgeprune.intake.load import LoadedModel

__all__ = ["cache_documents", "cache_scales"]

_LONGEST_WINDOW = 1024
_MOST_TOKENS = 16_384
"""What scales are measured on."""


def cache_documents(texts: Path) -> list[str]:
    """Calibration documents of a text file of a run, domain and general in turns, since not all of them may be read.

    Raises:
        CalibrationError: the file is missing or damaged.
    """
    parts = [read_split(texts, name, "calibrate") for name in ("domain", "general")]
    return [document for pair in itertools.zip_longest(*parts) for document in pair if document is not None]


def cache_scales(
    loaded: LoadedModel, documents: Sequence[str], *, window_tokens: int
) -> tuple[CacheScales, ...] | None:
    """Scales of an 8-bit cache, measured on documents; None where the cache stays float32.

    Raises:
        CalibrationError: there is no text to measure on.
        ModelError: the model's attention cannot be watched.
    """
    if loaded.spec.kv_bits != 8:
        return None
    windows = pack_windows(
        encode(loaded.tokenizer, documents),
        separator=separator_token(loaded.spec),
        window_tokens=min(window_tokens, loaded.spec.max_positions, _LONGEST_WINDOW),
        limit_tokens=_MOST_TOKENS,
    )
    if not windows.numel():
        raise CalibrationError(
            "There is no calibration text to measure the scales of an 8-bit cache on; give a longer domain text, or "
            "leave --kv-bits 8 out."
        )
    return measure_cache_scales(loaded, windows)
