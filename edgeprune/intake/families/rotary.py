"""Rotary positions: which variants of a configuration are read.

transformers 5 writes `rope_parameters`, 4 wrote `rope_scaling` beside `rope_theta`. Only scalings whose frequencies do
not depend on the length of the text are read, because the exported tables are computed once.
"""

from collections.abc import Sequence
from typing import Any

from edgeprune.errors import ModelError, UnsupportedArchitectureError
from edgeprune.intake.config import read_number

__all__ = ["ROPE_TYPES", "check_rotary", "read_rotary"]

ROPE_TYPES = ("default", "linear", "llama3")


def check_rotary(config: dict[str, Any], *, head_dim: int) -> None:
    """Refuse rotary variants that the families with full rotation do not cover.

    Raises:
        ModelError: malformed parameters.
        UnsupportedArchitectureError: another scaling, or heads that are rotated in part.
    """
    rotary_dim = read_rotary(config, head_dim=head_dim)
    if rotary_dim != head_dim:
        partial = rotary_dim / head_dim
        raise UnsupportedArchitectureError(
            f"Only a part of each head is rotated (partial_rotary_factor {partial!r} in config.json), which is not "
            "supported for Llama-like models."
        )


def read_rotary(
    config: dict[str, Any], *, head_dim: int, types: Sequence[str] = ROPE_TYPES, partial_default: float = 1.0
) -> int:
    """Rotated dimensions of a head.

    Args:
        config: config.json.
        head_dim: of one head.
        types: scalings that the family's adapter and graph cover.
        partial_default: share of a head that is rotated where config.json is silent.

    Raises:
        ModelError: malformed parameters.
        UnsupportedArchitectureError: another scaling.
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
    if rope_type not in types:
        raise UnsupportedArchitectureError(
            f"The rotary scaling {rope_type!r} in config.json is not supported; {', '.join(types)} are."
        )
    if rope_type != "default":
        read_number(rope, "factor", default=1.0)
    partial = read_number({**config, **rope}, "partial_rotary_factor", default=partial_default)
    rotary_dim = int(head_dim * partial)
    if partial > 1.0 or rotary_dim < 2 or rotary_dim % 2 != 0:
        raise ModelError(
            f"config.json: partial_rotary_factor {partial:g} of a head of {head_dim} is no even number of dimensions; "
            "the file is malformed."
        )
    return rotary_dim
