"""`Price`: what one separable piece of an edited model adds to every quantity the budget limits.

A recipe's cost is the sum of the prices of its pieces (what is fixed, tables, blocks, sites), so the solver may choose
pieces one by one. Two things are not sums and are kept as parts of sums: peak memory is the larger of the loading
peak and the running peak, and time depends on how much of the weights stays in the last-level cache, so each piece
carries its time with and without that.
"""

from dataclasses import dataclass

from edgeprune.predict.interval import ZERO, Interval, add, blend

__all__ = ["FREE", "Price"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Bytes and seconds one piece adds; `None` times could not be predicted."""

    disk_bytes: int = 0
    weights_bytes: int = 0
    parameter_count: int = 0
    working_set_bytes: int = 0
    """Bytes read to decode one token."""
    kv_cache_bytes: int = 0
    activation_bytes: int = 0
    resident_bytes: Interval = ZERO
    """Weights once the session has prepared them."""
    loading_bytes: Interval = ZERO
    """Peak of the same weights while the session prepares them."""
    session_bytes: Interval = ZERO
    """Nodes and session state, present from loading on."""
    decode_cached_s: Interval | None = ZERO
    """Per token, with the weights in the last-level cache."""
    decode_streaming_s: Interval | None = ZERO
    """Per token, with the weights read from memory."""
    prefill_cached_s: Interval | None = ZERO
    prefill_streaming_s: Interval | None = ZERO

    def __add__(self, other: "Price") -> "Price":
        return Price(
            disk_bytes=self.disk_bytes + other.disk_bytes,
            weights_bytes=self.weights_bytes + other.weights_bytes,
            parameter_count=self.parameter_count + other.parameter_count,
            working_set_bytes=self.working_set_bytes + other.working_set_bytes,
            kv_cache_bytes=self.kv_cache_bytes + other.kv_cache_bytes,
            activation_bytes=self.activation_bytes + other.activation_bytes,
            resident_bytes=_sum(self.resident_bytes, other.resident_bytes),
            loading_bytes=_sum(self.loading_bytes, other.loading_bytes),
            session_bytes=_sum(self.session_bytes, other.session_bytes),
            decode_cached_s=add(self.decode_cached_s, other.decode_cached_s),
            decode_streaming_s=add(self.decode_streaming_s, other.decode_streaming_s),
            prefill_cached_s=add(self.prefill_cached_s, other.prefill_cached_s),
            prefill_streaming_s=add(self.prefill_streaming_s, other.prefill_streaming_s),
        )

    @property
    def loading_memory(self) -> Interval:
        """Model memory at the loading peak."""
        return _sum(self.loading_bytes, self.session_bytes)

    @property
    def running_memory(self) -> Interval:
        """Model memory while running: weights, session, KV cache, activations."""
        fixed = float(self.kv_cache_bytes + self.activation_bytes)
        held = _sum(self.resident_bytes, self.session_bytes)
        # Activations are an upper bound of what the arena takes at once; half of it is the least ever seen.
        low = held.low + self.kv_cache_bytes + 0.5 * self.activation_bytes
        return Interval(held.value + fixed, low, held.high + fixed)

    @property
    def loading_high_bytes(self) -> float:
        """Upper end of the model memory at the loading peak."""
        return self.loading_memory.high

    @property
    def running_high_bytes(self) -> float:
        """Upper end of the model memory while running."""
        return self.running_memory.high

    @property
    def device_bytes(self) -> float:
        """Bytes the piece's tensors take on an accelerator; the provider's own memory comes on top."""
        return float(self.weights_bytes + self.kv_cache_bytes + self.activation_bytes)

    def decode_s(self, cached_fraction: float) -> Interval | None:
        """Seconds per token when that share of the weights stays in the last-level cache."""
        return blend(self.decode_streaming_s, self.decode_cached_s, cached_fraction)

    def prefill_s(self, cached_fraction: float) -> Interval | None:
        """Seconds for the prompt when that share of the weights stays in the last-level cache."""
        return blend(self.prefill_streaming_s, self.prefill_cached_s, cached_fraction)

    def decode_high_s(self, cached_fraction: float) -> float | None:
        """Upper end of the seconds per token."""
        interval = self.decode_s(cached_fraction)
        return None if interval is None else interval.high

    def prefill_high_s(self, cached_fraction: float) -> float | None:
        """Upper end of the seconds for the prompt."""
        interval = self.prefill_s(cached_fraction)
        return None if interval is None else interval.high


FREE = Price()


def _sum(first: Interval, second: Interval) -> Interval:
    return Interval(first.value + second.value, first.low + second.low, first.high + second.high)
