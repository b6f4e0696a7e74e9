"""Reads fields of `config.json` strictly: a value of the wrong kind or an absurd size is a `ModelError`, quickly.

The bounds stand far above every published model (the largest dense ones have 126 blocks, width 16,384, 262,144
tokens); they exist so that a malformed file is refused before anything of its claimed size is built.
"""

import json
import math
from pathlib import Path
from typing import Any

from edgeprune.errors import ModelError

__all__ = [
    "BLOCK_LIMIT",
    "POSITION_LIMIT",
    "VOCABULARY_LIMIT",
    "WIDTH_LIMIT",
    "read_flag",
    "read_json",
    "read_number",
    "read_size",
    "read_text",
]

BLOCK_LIMIT = 1024
WIDTH_LIMIT = 2**20
VOCABULARY_LIMIT = 2**24
POSITION_LIMIT = 2**31

_JSON_LIMIT_BYTES = 64 * 2**20

Config = dict[str, Any]


def read_json(path: Path) -> Config:
    """The JSON object in a file.

    Raises:
        ModelError: unreadable, too large, not UTF-8, not JSON, nested absurdly, or not an object.
    """
    try:
        if path.stat().st_size > _JSON_LIMIT_BYTES:
            raise ModelError(f"{path} is larger than 64 MiB; that is no configuration, download the model again.")
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{path} is missing; give the folder of a Hugging Face model.") from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); check the file.") from error
    except (ValueError, RecursionError) as error:
        # UnicodeDecodeError and JSONDecodeError are both ValueErrors.
        raise ModelError(f"{path} is not valid JSON ({error}); download the model again.") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} holds no JSON object; download the model again.")
    return value


def read_size(config: Config, *keys: str, limit: int, default: int | None = None) -> int:
    """The first of `keys` that is set, as a whole number in 1..limit.

    Raises:
        ModelError: missing without a default, not a whole number, or out of bounds.
    """
    key, value = _first(config, keys, default)
    if value is None:
        raise ModelError(f"config.json has no {key}; it is incomplete, download the model again.")
    if isinstance(value, bool) or not isinstance(value, int):
        raise ModelError(f"config.json: {key} is {value!r}, not a whole number; the file is malformed.")
    if not 1 <= value <= limit:
        raise ModelError(f"config.json: {key} is {value}, outside 1..{limit}; the file is malformed.")
    return value


def read_number(config: Config, *keys: str, default: float) -> float:
    """The first of `keys` that is set, as a positive finite number.

    Raises:
        ModelError: not a number, not finite, or not positive.
    """
    key, value = _first(config, keys, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
        raise ModelError(f"config.json: {key} is {value!r}, not a positive number; the file is malformed.")
    return float(value)


def read_flag(config: Config, key: str, *, default: bool) -> bool:
    """A true or false value.

    Raises:
        ModelError: something else.
    """
    value = config.get(key)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise ModelError(f"config.json: {key} is {value!r}, neither true nor false; the file is malformed.")
    return value


def read_text(config: Config, *keys: str, default: str) -> str:
    """The first of `keys` that is set, as text.

    Raises:
        ModelError: something else.
    """
    key, value = _first(config, keys, default)
    if not isinstance(value, str):
        raise ModelError(f"config.json: {key} is {value!r}, not text; the file is malformed.")
    return value


def _first(config: Config, keys: tuple[str, ...], default: Any) -> tuple[str, Any]:
    for key in keys:
        if config.get(key) is not None:
            return key, config[key]
    return keys[0], default
