"""What a family file provides: shapes from a configuration, and the tensors those shapes are stored in."""

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from edgeprune.schema.model import BlockSpec

__all__ = ["Engine", "Family", "FamilyShapes"]

Engine = Literal["mobius", "wired"]
"""What builds a family's graph: mobius from its own modules, or mobius's builder from the decoder that we wire."""


@dataclass(frozen=True, kw_only=True)
class FamilyShapes:
    """The part of a `ModelSpec` that a configuration determines; fields mean what they mean there."""

    hidden_size: int
    vocab_size: int
    max_positions: int
    position_offset: int = 0
    is_tied: bool
    position_kind: Literal["rotary", "learned"]
    rotary_dim: int | None
    rotary_table_count: int = 1
    norm_kind: Literal["rms", "layer"]
    norm_epsilon: float
    activation: str
    is_gated: bool
    sliding_window: int | None
    blocks: tuple[BlockSpec, ...]
    final_norm_parameter_count: int


class Family(Protocol):
    """One architecture family; stateless."""

    name: str
    """Name of the family file."""
    model_types: tuple[str, ...]
    """`model_type` values of config.json it reads."""
    engine: Engine
    engine_reason: str
    """Why the first engine, mobius, does not take it; empty where it does."""

    def shapes(self, config: dict[str, Any]) -> FamilyShapes:
        """Shapes a configuration describes.

        Raises:
            ModelError: a field is missing or malformed.
            UnsupportedArchitectureError: a variant this family does not cover.
        """
        ...

    def tensors(self, shapes: FamilyShapes) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every stored tensor, without the prefix of the base model (`model.`, `transformer.`)."""
        ...

    def strip(self, name: str) -> str | None:
        """A stored name without that prefix; None for a buffer that is stored but is no parameter."""
        ...
