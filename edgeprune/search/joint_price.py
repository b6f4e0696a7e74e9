"""Two prices that are always paid together, as one."""

from dataclasses import dataclass

from edgeprune.search.problem import Price

__all__ = ["JointPrice"]


@dataclass(frozen=True, slots=True)
class JointPrice:
    """The sum of two prices."""

    first: Price
    second: Price

    @property
    def disk_bytes(self) -> int:
        """Bytes of the bundle."""
        return self.first.disk_bytes + self.second.disk_bytes

    @property
    def working_set_bytes(self) -> int:
        """Bytes read to decode one token."""
        return self.first.working_set_bytes + self.second.working_set_bytes

    @property
    def loading_high_bytes(self) -> float:
        """Model memory at the loading peak."""
        return self.first.loading_high_bytes + self.second.loading_high_bytes

    @property
    def running_high_bytes(self) -> float:
        """Model memory while running."""
        return self.first.running_high_bytes + self.second.running_high_bytes

    @property
    def device_bytes(self) -> float:
        """Bytes on an accelerator."""
        return self.first.device_bytes + self.second.device_bytes

    def decode_high_s(self, cached_fraction: float) -> float | None:
        """Seconds per token; None when one of the two is unknown."""
        return _sum(self.first.decode_high_s(cached_fraction), self.second.decode_high_s(cached_fraction))

    def prefill_high_s(self, cached_fraction: float) -> float | None:
        """Seconds for the prompt; None when one of the two is unknown."""
        return _sum(self.first.prefill_high_s(cached_fraction), self.second.prefill_high_s(cached_fraction))


def _sum(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first + second
