"""Energy a decoded token costs, in a stretch of its own after what is timed: reading a meter would disturb the times.

Counters are renewed every millisecond (RAPL) to every tenth of a second (GPUs), so tokens are decoded at the end of the
context, again and again, until the stretch is long enough for that not to matter.
"""

import time
from collections.abc import Sequence

from edgeprune.runtime.decode import Decoder
from edgeprune.runtime.energy import EnergyMeter
from edgeprune.schema.measurement import EnergyResult

__all__ = ["LEAST_S", "lowest_energy", "measure_energy"]

LEAST_S = 2.0
"""Twenty renewals of the slowest counter."""


def measure_energy(
    decoder: Decoder, meter: EnergyMeter, *, start: int, count: int, least_s: float = LEAST_S
) -> EnergyResult | None:
    """Joules per token; None where a counter failed.

    Args:
        decoder: has read at least `start` tokens.
        meter: of this machine.
        start: position from which tokens are decoded.
        count: tokens until the decoder goes back to `start`.
        least_s: length of the stretch.
    """
    token, decoded = 0, 0
    meter.used_j()
    start_s = time.perf_counter()
    while decoded == 0 or time.perf_counter() - start_s < least_s:
        decoder.rewind(start)
        for _ in range(count):
            token = int(decoder.step(token).argmax())
        decoded += count
    used_j = meter.used_j()
    if used_j is None or used_j <= 0.0:
        return None
    return EnergyResult(token_j=used_j / decoded, token_count=decoded, meters=meter.names)


def lowest_energy(processes: Sequence[EnergyResult | None]) -> EnergyResult | None:
    """The lowest over the processes: what other programs use only ever adds. None where nothing was read."""
    return min((found for found in processes if found is not None), key=lambda found: found.token_j, default=None)
