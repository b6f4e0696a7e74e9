"""ASVD's measurements, made once for a model and a calibration and read again for every size asked for.

What a share of a site costs alone does not depend on how much of the model is to stay, and measuring it takes most of
the technique's time. The file is named by the hash of all it depends on: the model, the windows, the magnitudes of the
sites' inputs, the shares and the exponent. A folder that cannot be written, or a file that cannot be read, costs the
measurement and nothing else.
"""

import contextlib
import hashlib
from pathlib import Path

from edgeprune.artifacts import hash_parts, read_record, write_record
from edgeprune.calibrate.statistics import CalibrationStats
from edgeprune.compress.asvd import ALPHA
from edgeprune.compress.asvd_sensitivity import SHARES, measured_windows, sensitivities
from edgeprune.errors import EdgePruneError
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.base import Record
from edgeprune.schema.events import Progress

__all__ = ["known_sensitivities"]

_METHOD = 1
"""Raised when the same inputs would be measured otherwise."""


class _Sensitivities(Record, frozen=True, kw_only=True):
    losses: dict[str, tuple[float, ...]]
    """By site, nats per token at each share."""


def known_sensitivities(
    loaded: LoadedModel, stats: CalibrationStats, cache: Path | None, *, progress: Progress
) -> dict[str, tuple[float, ...]]:
    """`sensitivities` of the model, from the cache where they are there.

    Args:
        loaded: the dense model; as it was when this returns.
        stats: of its calibration, with the magnitudes of the sites' inputs.
        cache: folder of what was measured; None keeps nothing.
        progress: told while they are measured.
    """
    if cache is None:
        return sensitivities(loaded, stats, progress=progress)
    path = cache / f"asvd-{_key(loaded, stats)[:16]}.json"
    names = {site.name for block in loaded.spec.blocks for site in block.sites}
    if path.is_file():
        with contextlib.suppress(EdgePruneError):
            found = read_record(path, _Sensitivities).losses
            if set(found) == names and all(len(losses) == len(SHARES) for losses in found.values()):
                return found
    losses = sensitivities(loaded, stats, progress=progress)
    with contextlib.suppress(EdgePruneError, OSError):
        write_record(path, _Sensitivities(losses=losses))
    return losses


def _key(loaded: LoadedModel, stats: CalibrationStats) -> str:
    digest = hashlib.sha256(measured_windows(stats).numpy().tobytes())
    for key, values in sorted(stats.mean_absolute.items()):
        digest.update(key.encode())
        digest.update(values.double().numpy().tobytes())
    return hash_parts(_METHOD, loaded.spec.model_hash, digest.hexdigest(), SHARES, ALPHA)
