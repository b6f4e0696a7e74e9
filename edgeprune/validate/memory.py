"""Memory per stage of a measured process, and model memory.

The peak is VmHWM of the measuring process over load, prefill and decode. Of several processes the largest peak
counts: a limit has to hold every time. Model memory is that peak minus the floor, plus what the process holds on an
accelerator with memory of its own.
"""

from collections.abc import Sequence

from edgeprune.runtime.memory import accelerator_bytes, available_bytes, cgroup_peak_bytes, read_memory
from edgeprune.runtime.session import CPU_PROVIDER
from edgeprune.schema.device import Floor
from edgeprune.schema.measurement import MemoryStage

__all__ = ["StageRecorder", "floor_stage", "largest", "model_memory_bytes", "peak_bytes"]


class StageRecorder:
    """Notes the memory of this process at the end of each stage."""

    def __init__(self, execution_provider: str = CPU_PROVIDER) -> None:
        """Remember what was available before anything was loaded."""
        self._execution_provider = execution_provider
        self._available_bytes = available_bytes()
        self._stages: list[MemoryStage] = []

    def end(self, stage: str) -> None:
        """Note one stage; nothing is noted where the system does not tell the peak."""
        memory = read_memory()
        if memory.peak_rss_bytes is None:
            return
        now = available_bytes()
        before = self._available_bytes
        self._stages.append(
            MemoryStage(
                stage=stage,
                peak_rss_bytes=memory.peak_rss_bytes,
                rss_bytes=memory.rss_bytes,
                anonymous_bytes=memory.anonymous_bytes,
                cgroup_peak_bytes=cgroup_peak_bytes(),
                available_drop_bytes=None if before is None or now is None else before - now,
                device_bytes=accelerator_bytes(self._execution_provider),
            )
        )

    @property
    def stages(self) -> tuple[MemoryStage, ...]:
        """What was noted."""
        return tuple(self._stages)


def floor_stage(floor: Floor) -> MemoryStage:
    """The floor as the first stage of a table."""
    return MemoryStage(
        stage="floor", peak_rss_bytes=floor.peak_rss_bytes, rss_bytes=None, anonymous_bytes=floor.anonymous_bytes
    )


def peak_bytes(stages: Sequence[MemoryStage]) -> int | None:
    """Peak over all stages; None when none was noted."""
    return max((stage.peak_rss_bytes for stage in stages), default=None)


def largest(processes: Sequence[Sequence[MemoryStage]]) -> tuple[MemoryStage, ...]:
    """The stages of the process with the largest peak."""
    noted = [tuple(stages) for stages in processes if stages]
    return max(noted, key=lambda stages: peak_bytes(stages) or 0, default=())


def model_memory_bytes(stages: Sequence[MemoryStage], floor: Floor | None) -> int | None:
    """Peak minus floor, plus the accelerator's; None when peak or floor was not measured."""
    peak = peak_bytes(stages)
    if peak is None or floor is None:
        return None
    return peak - floor.peak_rss_bytes + max((stage.device_bytes or 0 for stage in stages), default=0)
