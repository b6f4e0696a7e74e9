"""Time from memory bandwidth alone, for devices whose kernels nobody has timed (data sheets).

One token reads every weight once, so decoding cannot be faster than bytes / bandwidth. Runtimes reach 40 to 90 % of a
data sheet's bandwidth on such reads; 65 % stands as the value and the two ends as the range. With many rows a
processor's arithmetic decides instead, which a data sheet does not tell: no prefill time is given.
"""

from edgeprune.predict.interval import Interval
from edgeprune.schema.device import DeviceProfile

__all__ = ["NODE", "Roofline"]

EFFICIENCY_LOW = 0.4
EFFICIENCY = 0.65
EFFICIENCY_HIGH = 0.9

NODE = Interval(8e-6, 2e-6, 30e-6)
"""Seconds a node costs where it was not measured: about 3 us on a desktop core, up to 30 us on small boards."""


class Roofline:
    """Seconds to read bytes from memory."""

    def __init__(self, device: DeviceProfile) -> None:
        """Take the best measured bandwidth, or the data sheet's."""
        measured = [point.read_best_bytes_per_s for point in device.bandwidth if point.read_best_bytes_per_s]
        self._bandwidth = max(measured) if measured else device.peak_bandwidth_bytes_per_s
        largest = max((point.array_bytes for point in device.bandwidth), default=0)
        # The largest arrays are the ones no cache holds.
        streaming = [
            point.read_best_bytes_per_s
            for point in device.bandwidth
            if point.array_bytes == largest and point.read_best_bytes_per_s
        ]
        self._streaming = max(streaming) if streaming else None

    def bound(self, time: Interval | None, read_bytes: float) -> Interval | None:
        """A time measured in cache, no shorter than reading the bytes from memory takes at the measured bandwidth.

        Where reading decides, the high end allows for kernels that do not reach that bandwidth.
        """
        if time is None or self._streaming is None:
            return time
        least_s = read_bytes / self._streaming
        return Interval(max(time.value, least_s), max(time.low, least_s), max(time.high, least_s / EFFICIENCY))

    def time_s(self, read_bytes: float, *, node_count: int) -> Interval | None:
        """Seconds to stream `read_bytes` through that many nodes; None without any bandwidth figure."""
        if self._bandwidth is None:
            return None
        ideal_s = read_bytes / self._bandwidth
        return Interval(
            ideal_s / EFFICIENCY + node_count * NODE.value,
            ideal_s / EFFICIENCY_HIGH + node_count * NODE.low,
            ideal_s / EFFICIENCY_LOW + node_count * NODE.high,
        )
