"""The row of a report that says whether a bundle ran within the memory of an emulated device.

met         the limit was enforced, no process was ended for it, and the peak lies within it
not_met     a process was ended, or the peak lies above
unmeasured  this system could not enforce the limit, or no peak was measured
"""

from edgeprune.schema.base import Verdict
from edgeprune.schema.emulation import EmulatedDevice
from edgeprune.schema.measurement import BundleMeasurement, Check

__all__ = ["check_emulated_memory"]


def check_emulated_memory(device: EmulatedDevice, chosen: BundleMeasurement, *, killed_count: int) -> tuple[Check, ...]:
    """One check where a memory limit was asked for, none otherwise.

    Args:
        device: what was enforced.
        chosen: the judged bundle's measurements.
        killed_count: measuring processes, of whichever bundle, that the limit ended.
    """
    limit = device.memory_bytes
    if limit is None:
        return ()
    peak = chosen.peak_rss_bytes if device.is_memory_enforced else None
    verdict: Verdict
    if killed_count > 0 and chosen.failures:
        verdict = "not_met"
    elif peak is None:
        verdict = "unmeasured"
    else:
        verdict = "met" if peak <= limit else "not_met"
    return (Check(quantity="emulated_memory", limit=float(limit), measured=peak, unit="bytes", verdict=verdict),)
