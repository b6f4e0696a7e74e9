"""`Recovery`: the training before the cuts and the one between ranks and bits, in steps so that it can be repeated."""

from typing import Literal

import msgspec

from edgeprune.schema.base import SCHEMA_VERSION, Record

__all__ = ["RECOVERY_MODES", "Recovery", "RecoveryMode", "RecoveryPlans", "RecoveryRequest"]

RecoveryMode = Literal["auto", "blockwise", "distill", "lora"]
"""`blockwise`: each block alone learns the dense model's hidden states; `distill`: all weights learn the dense model's
predictions and the text; `lora`: adapters do, merged afterwards; `auto`: the dense model learns the text before it is
cut, then blockwise, then distill."""

RECOVERY_MODES: tuple[RecoveryMode, ...] = ("auto", "blockwise", "distill", "lora")


class Recovery(Record, frozen=True, kw_only=True):
    """What is trained, and for how long."""

    mode: RecoveryMode = "auto"
    steps: int = 0
    """Batches of the end-to-end training; `blockwise` has none."""
    block_steps: int = 0
    """Batches each block is trained on alone; `distill` and `lora` have none."""
    adapt_steps: int = 0
    """Batches the dense model is trained on before anything is cut; only `auto` has any."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the products while training; weights and sums stay float32. Chosen by what is faster where it was planned."""
    freezing: Literal["none", "alternate"] = "none"
    """`alternate`: the left and the right factors take turns, which halves the gradients held of factored sites."""

    def __str__(self) -> str:
        dense = f"{self.adapt_steps:,} steps of the dense model" if self.adapt_steps else ""
        blocks = f"{self.block_steps:,} steps of each block" if self.block_steps else ""
        whole = f"{self.steps:,} steps of the whole model" if self.steps else ""
        parts = [part for part in (dense, blocks, whole) if part]
        return f"{' and '.join(filter(None, (', '.join(parts[:-1]), *parts[-1:])))} in {self.precision}"

    @property
    def defect(self) -> str | None:
        """What makes these numbers no recovery, as a clause; None when they are one."""
        if min(self.steps, self.block_steps, self.adapt_steps) < 0:
            return "steps, block_steps and adapt_steps must not be negative"
        if self.steps == self.block_steps == self.adapt_steps == 0:
            return "steps and block_steps are both 0, so nothing is trained; give steps or leave recovery out"
        if self.adapt_steps and self.mode != "auto":
            return f"mode {self.mode} leaves the dense model as it is; give no adapt_steps, or take mode auto"
        if self.mode == "blockwise" and self.steps:
            return "mode blockwise trains blocks alone; give block_steps and no steps"
        if self.mode in ("distill", "lora") and self.block_steps:
            return f"mode {self.mode} trains the whole model at once; give steps and no block_steps"
        return None


class RecoveryRequest(Record, frozen=True, kw_only=True):
    """What the user asks for; how many steps that is depends on the machine, and is planned there."""

    minutes: float
    """Of training, on the machine that compresses."""
    mode: RecoveryMode = "auto"


class RecoveryPlans(Record, frozen=True, kw_only=True):
    """What was planned in a run, so that one that goes on after a kill trains the same number of steps."""

    schema_version: int = SCHEMA_VERSION
    plans: dict[str, Recovery] = msgspec.field(default_factory=dict)
    """sha256 of the model, the recipe, the text and the request -> its recovery."""
