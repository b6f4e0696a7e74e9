"""The floor: peak resident memory (VmHWM) of a process that imports what validation imports and runs one node.

`edgeprune.runtime.floor` measures it in one fresh process, for profiling and validation alike; here it is the median
over several, since the pages a process happens to touch vary by some hundred kB.
"""

from statistics import median

from edgeprune.errors import DeviceError
from edgeprune.runtime import floor
from edgeprune.runtime.threads import usable_core_count
from edgeprune.schema.device import Floor

__all__ = ["measure_floor", "median_floor"]


def measure_floor(*, thread_count: int | None = None, process_count: int = 3) -> Floor:
    """Median over fresh processes, one after another.

    Raises:
        DeviceError: a process failed, or this system does not tell a process its peak.
    """
    threads = usable_core_count() if thread_count is None else thread_count
    return median_floor([floor.measure_floor(thread_count=threads) for _ in range(process_count)])


def median_floor(floors: list[Floor | None]) -> Floor:
    """The median of several measurements.

    Raises:
        DeviceError: no process was told its peak.
    """
    known = [measured for measured in floors if measured is not None]
    if not known:
        raise DeviceError("This system does not tell a process its peak memory (VmHWM); use Linux to profile.")
    anonymous = [measured.anonymous_bytes for measured in known if measured.anonymous_bytes is not None]
    return Floor(
        peak_rss_bytes=round(median(measured.peak_rss_bytes for measured in known)),
        anonymous_bytes=round(median(anonymous)) if anonymous else None,
    )
