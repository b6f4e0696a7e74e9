"""The time and memory models of a device with the corrections its profile carries.

A correction multiplies what one family of pieces adds (kernels by the width of their weights; everything else) and
narrows or widens its range. Factors act on pieces, so that prices stay sums and the solver sees them too.
"""

from edgeprune.predict.interval import Interval
from edgeprune.predict.latency import Chunk, LatencyModel
from edgeprune.predict.memory import MemoryModel
from edgeprune.predict.structure import Parts
from edgeprune.schema.correction import CorrectedQuantity, CorrectionFactor
from edgeprune.schema.device import DeviceProfile
from edgeprune.schema.kernel import parse_kernel
from edgeprune.schema.model import BlockSpec, SiteForm

__all__ = ["FAMILIES", "CorrectedLatency", "CorrectedMemory", "family_of"]

OTHER = "other"
FAMILIES = ("fp32", "int8", "int4", OTHER)


def family_of(kernel: str) -> str:
    """Family of a kernel; 16-bit weights are widened at load and computed like 32-bit ones."""
    bits = parse_kernel(kernel).bits
    return f"int{bits}" if bits < 16 else "fp32"


class CorrectedLatency(LatencyModel):
    """`LatencyModel` times the factors of `decode` for one token, of `prefill` for prompts."""

    def __init__(self, device: DeviceProfile) -> None:
        """Index the profile's tables and factors."""
        super().__init__(device)
        self._factors = _factors(device)

    def site(
        self,
        kernel: str,
        chunks: tuple[Chunk, ...],
        *,
        in_features: int,
        out_features: int,
        rank: int | None,
        read_bytes: int,
        is_cached: bool,
        form: SiteForm = "factors",
    ) -> Interval | None:
        """The products of one site over these chunks."""
        found = super().site(
            kernel,
            chunks,
            in_features=in_features,
            out_features=out_features,
            rank=rank,
            read_bytes=read_bytes,
            is_cached=is_cached,
            form=form,
        )
        return None if found is None else self._correct(found, chunks, family_of(kernel))

    def attention(self, block: BlockSpec, chunks: tuple[Chunk, ...], *, is_cached: bool = True) -> Interval | None:
        """The attention node of a block over these chunks."""
        found = super().attention(block, chunks, is_cached=is_cached)
        return None if found is None else self._correct(found, chunks, OTHER)

    def nodes(self, count: int, chunks: tuple[Chunk, ...]) -> Interval:
        """Fixed time of nodes that are in no table."""
        return self._correct(super().nodes(count, chunks), chunks, OTHER)

    def elements(self, width: int, chunks: tuple[Chunk, ...]) -> Interval:
        """Time that grows with the elements norms and activations touch."""
        return self._correct(super().elements(width, chunks), chunks, OTHER)

    def reordering(self, width: int, chunks: tuple[Chunk, ...]) -> Interval:
        """Putting outputs in the order of the rows."""
        return self._correct(super().reordering(width, chunks), chunks, OTHER)

    def binding(self, pair_count: int, chunks: tuple[Chunk, ...]) -> Interval:
        """Bound past/present pairs."""
        return self._correct(super().binding(pair_count, chunks), chunks, OTHER)

    def runs(self, chunks: tuple[Chunk, ...]) -> Interval:
        """Starting the session once a chunk."""
        return self._correct(super().runs(chunks), chunks, OTHER)

    def _correct(self, interval: Interval, chunks: tuple[Chunk, ...], family: str) -> Interval:
        is_decode = len(chunks) == 1 and chunks[0][0] == 1
        return _apply(interval, self._factors.get(("decode" if is_decode else "prefill", family)))


class CorrectedMemory(MemoryModel):
    """`MemoryModel` times the factors of `memory`; mapped pages, KV cache and activations are not corrected."""

    def __init__(self, device: DeviceProfile) -> None:
        """Read the measured fractions, overheads and factors."""
        super().__init__(device)
        self._factors = _factors(device)

    def weights(self, kernel: str, tensor_bytes: int) -> tuple[Interval, Interval]:
        """Resident bytes and loading peak of stored weights; `tables` asks here too."""
        factor = self._factors.get(("memory", family_of(kernel)))
        resident, loading = super().weights(kernel, tensor_bytes)
        return _apply(resident, factor), _apply(loading, factor)

    def nodes(self, parts: Parts) -> Interval:
        """What the nodes of a piece add to the session."""
        return _apply(super().nodes(parts), self._factors.get(("memory", OTHER)))

    def session(self) -> Interval:
        """What a session adds once."""
        return _apply(super().session(), self._factors.get(("memory", OTHER)))


def _factors(device: DeviceProfile) -> dict[tuple[CorrectedQuantity, str], CorrectionFactor]:
    found = () if device.corrections is None else device.corrections.factors
    return {(factor.quantity, factor.family): factor for factor in found}


def _apply(interval: Interval, factor: CorrectionFactor | None) -> Interval:
    if factor is None:
        return interval
    below = (interval.value - interval.low) * factor.range_factor
    above = (interval.high - interval.value) * factor.range_factor
    low = max(0.0, interval.value - below)
    return Interval(factor.value * interval.value, factor.value * low, factor.value * (interval.value + above))
