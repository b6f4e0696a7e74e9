"""Sliding-window attention: the one window of a model, or None; mixtures of kinds are refused for graphs of mobius.

A `ModelSpec` holds one window; which blocks have it, a wired family's adapter reads from the model. transformers 5.23
reads `sliding_window` in `mistral` for every block, and in `qwen2` and `qwen3` only with `use_sliding_window`, for
blocks from `max_window_layers` on or by `layer_types`.
"""

from typing import Any

from edgeprune.errors import ModelError, UnsupportedArchitectureError
from edgeprune.intake.config import POSITION_LIMIT, read_flag, read_size

__all__ = ["read_mixed_window", "read_window"]

_DEFAULT_WINDOW = 4096
_DEFAULT_FIRST_BLOCK = 28


def read_window(config: dict[str, Any], model_type: str, *, block_count: int) -> int | None:
    """Tokens a block attends to, itself included; None when it attends to all.

    Raises:
        ModelError: a field is malformed.
        UnsupportedArchitectureError: some blocks have a window and some have none, or attention of another kind.
    """
    layer_types = _layer_types(config, block_count)
    if model_type == "llama":
        has_window = False
    elif model_type == "mistral":
        has_window = True
    else:
        has_window = read_flag(config, "use_sliding_window", default=False)
    if not has_window or ("sliding_window" in config and config["sliding_window"] is None):
        return None
    window = read_size(config, "sliding_window", limit=POSITION_LIMIT, default=_DEFAULT_WINDOW)
    if model_type == "mistral":
        return window
    if layer_types is not None:
        sliding_count = layer_types.count("sliding_attention")
    else:
        first = config.get("max_window_layers", _DEFAULT_FIRST_BLOCK)
        if isinstance(first, bool) or not isinstance(first, int):
            raise ModelError(f"config.json: max_window_layers is {first!r}, not a whole number; the file is malformed.")
        sliding_count = block_count - min(max(first, 0), block_count)
    if 0 < sliding_count < block_count:
        raise UnsupportedArchitectureError(
            "Some blocks of the model attend to a sliding window and some to everything (layer_types in config.json), "
            "which is not supported; take a model with one kind of attention."
        )
    return window if sliding_count else None


def read_mixed_window(config: dict[str, Any], *, block_count: int, default: int | None = None) -> int | None:
    """The window of the blocks that have one, for families whose graph knows each block's own; None where none has.

    Raises:
        ModelError: a field is malformed.
        UnsupportedArchitectureError: attention of another kind.
    """
    _layer_types(config, block_count)
    if config.get("sliding_window", default) is None:
        return None
    return read_size(config, "sliding_window", limit=POSITION_LIMIT, default=default)


def _layer_types(config: dict[str, Any], block_count: int) -> list[str] | None:
    layer_types = config.get("layer_types")
    if layer_types is None:
        return None
    if not isinstance(layer_types, list) or len(layer_types) != block_count:
        raise ModelError(f"config.json: layer_types does not name {block_count} blocks; the file is malformed.")
    for kind in layer_types:
        if kind not in ("full_attention", "sliding_attention"):
            raise UnsupportedArchitectureError(
                f"The model has blocks of the kind {kind!r} (layer_types in config.json), which are not supported; "
                "take a model with full attention."
            )
    return layer_types
