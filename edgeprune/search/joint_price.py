"""Two prices that are always paid together, as one."""

from edgeprune.search.problem import Price

__all__ = ["JointPrice"]


class JointPrice:
    """The sum of two prices."""

    __slots__ = ("_first", "_second")

    def __init__(self, first: Price, second: Price) -> None:
        self._first, self._second = first, second

    @property
    def disk_bytes(self) -> int:
        """Bytes of the bundle."""
        return self._first.disk_bytes + self._second.disk_bytes

    @property
    def working_set_bytes(self) -> int:
        """Bytes read to decode one token."""
        return self._first.working_set_bytes + self._second.working_set_bytes

    @property
    def loading_high_bytes(self) -> float:
        """Model memory at the loading peak."""
        return self._first.loading_high_bytes + self._second.loading_high_bytes

    @property
    def running_high_bytes(self) -> float:
        """Model memory while running."""
        return self._first.running_high_bytes + self._second.running_high_bytes

    @property
    def device_bytes(self) -> float:
        """Bytes on an accelerator."""
        return self._first.device_bytes + self._second.device_bytes

    def decode_high_s(self, cached_fraction: float) -> float | None:
        """Seconds per token; None when one of the two is unknown."""
        return _sum(self._first.decode_high_s(cached_fraction), self._second.decode_high_s(cached_fraction))

    def prefill_high_s(self, cached_fraction: float) -> float | None:
        """Seconds for the prompt; None when one of the two is unknown."""
        return _sum(self._first.prefill_high_s(cached_fraction), self._second.prefill_high_s(cached_fraction))


def _sum(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first + second
