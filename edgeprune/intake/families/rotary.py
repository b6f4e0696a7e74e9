"""Rotary positions: which variants of a configuration are read.

transformers 5 writes `rope_parameters`, 4 wrote `rope_scaling` beside `rope_theta`. Only scalings whose frequencies do
not depend on the length of the text are read, because the exported tables are computed once.
"""

from typing import Any

from edgeprune.errors import ModelError, UnsupportedArchitectureError
from edgeprune.intake.config import read_number

__all__ = ["ROPE_TYPES", "check_rotary"]

ROPE_TYPES = ("default", "linear", "llama3")


def check_rotary(config: dict[str, Any], *, head_dim: int) -> None:
    """Refuse rotary variants that the families with full rotation do not cover.

    Raises:
        ModelError: malformed parameters.
        UnsupportedArchitectureError: another scaling, or heads that are rotated in part.
    """
    if head_dim % 2 != 0:
        raise ModelError(
            f"config.json: head_dim {head_dim} is odd, rotary positions need pairs; the file is malformed."
        )
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(rope, dict):
        raise ModelError(f"config.json: the rotary parameters are {rope!r}, not an object; the file is malformed.")
    read_number({**config, **rope}, "rope_theta", default=10_000.0)
    rope_type = rope.get("rope_type") or rope.get("type") or "default"
    if rope_type not in ROPE_TYPES:
        raise UnsupportedArchitectureError(
            f"The rotary scaling {rope_type!r} in config.json is not supported; {', '.join(ROPE_TYPES)} are."
        )
    if rope_type != "default":
        read_number(rope, "factor", default=1.0)
    partial = rope.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0))
    if partial is not None and partial != 1.0:
        raise UnsupportedArchitectureError(
            f"Only a part of each head is rotated (partial_rotary_factor {partial!r} in config.json), which is not "
            "supported for Llama-like models."
        )
