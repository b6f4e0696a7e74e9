"""The shipped catalogue: shapes of small open models, so that what fits a device is answered without any download.

Takes the TOML files in `catalogue_data` (one entry a model, its published config.json's own keys); gives what the
families read from such a configuration. No torch, no network.
"""

import difflib
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from edgeprune.artifacts import hash_parts, read_toml
from edgeprune.errors import UsageError
from edgeprune.intake.described import DescribedModel, describe_config
from edgeprune.intake.spec import FileFacts
from edgeprune.schema.base import Record

__all__ = ["CatalogueEntry", "describe_entry", "find_entry", "match_entry", "read_catalogue"]

TOKENIZER_BYTES_PER_ENTRY = 70
"""Bytes of tokenizer files for each vocabulary entry, an estimate: the shipped and the lab tokenizer have 65 and 67."""

_FOLDER = Path(__file__).resolve().parent / "catalogue_data"
_DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
_VARIANT = re.compile(r"-(instruct|chat|it|pt|base|hf|4k-instruct|chat-v1\.0)$")


class CatalogueEntry(Record, frozen=True, kw_only=True):
    """One model as its makers publish it."""

    hub_id: str
    license: str
    """As its hub page names it; `other` where the page does."""
    published_parameters: str
    """The published count with the digits it was printed with, such as `1.54B` or `70426624`."""
    published_in: str
    """Where that count is printed."""
    source: str
    """Address of the configuration the shapes are from."""
    config: dict[str, Any]
    """The keys of config.json that tell shapes, under their own names."""

    @property
    def name(self) -> str:
        """The hub id without its owner."""
        return self.hub_id.rpartition("/")[2]


class _CatalogueFile(Record, frozen=True, kw_only=True):
    """One file of the catalogue."""

    models: tuple[CatalogueEntry, ...]


@lru_cache(maxsize=1)
def read_catalogue() -> tuple[CatalogueEntry, ...]:
    """All entries, by name."""
    entries = [entry for path in sorted(_FOLDER.glob("*.toml")) for entry in read_toml(path, _CatalogueFile).models]
    return tuple(sorted(entries, key=lambda entry: entry.name.lower()))


def match_entry(name: str) -> CatalogueEntry | None:
    """The entry of that name or hub id, or None.

    Case does not matter, nor a suffix such as `-Instruct`: variants of one model have its shapes.
    """
    wanted = name.strip().lower()
    for form in (str.lower, lambda text: _stem(text.lower())):
        for entry in read_catalogue():
            if form(wanted) in (form(entry.name), form(entry.hub_id)):
                return entry
    return None


def find_entry(name: str) -> CatalogueEntry:
    """The entry that `match_entry` gives.

    Raises:
        UsageError: none; the message names the nearest ones.
    """
    entry = match_entry(name)
    if entry is not None:
        return entry
    nearest = _nearest(_stem(name.strip().lower()).rpartition("/")[2], read_catalogue())
    hint = f"nearest are {', '.join(nearest)}; " if nearest else ""
    raise UsageError(
        f"{name!r} is neither a folder nor a model of the catalogue; {hint}edgeprune fit --all without a name lists "
        "every model, or give the folder that holds its config.json."
    )


def describe_entry(entry: CatalogueEntry) -> DescribedModel:
    """What the families read from an entry, as from a folder that holds nothing but its config.json.

    Raises:
        ModelError: the entry is malformed.
        UnsupportedArchitectureError: an architecture whose weights cannot even be counted.
    """
    dtype = str(entry.config.get("torch_dtype", "float32"))
    facts = FileFacts(
        name=entry.name,
        model_hash=hash_parts(entry.hub_id, entry.config),
        source_dtype=dtype,
        source_bytes=0,
        tokenizer_bytes=TOKENIZER_BYTES_PER_ENTRY * int(entry.config["vocab_size"]),
        generation={},
        license=entry.license,
    )
    return describe_config(entry.config, facts, bytes_per_parameter=_DTYPE_BYTES[dtype])


def _stem(name: str) -> str:
    return _VARIANT.sub("", name)


def _nearest(name: str, entries: Sequence[CatalogueEntry]) -> list[str]:
    by_stem = {_stem(entry.name.lower()): entry.name for entry in entries}
    starting = [shown for stem, shown in by_stem.items() if stem.startswith(name)]
    close = [by_stem[stem] for stem in difflib.get_close_matches(name, by_stem, n=3, cutoff=0.5)]
    return list(dict.fromkeys((*close, *starting)))[:3]
