"""Measured loss of an 8-bit key-value cache.

Scales are measured on calibration windows as export measures them (`kv_rounding`), then the dense model reads the
selection text with keys and values as such a cache holds them. The model a search chooses has other keys and values, as
with every score of a dense model; the cache's error adds to theirs.
"""

from torch import Tensor

from edgeprune.calibrate.kv_rounding import measure_cache_scales, rounded_cache
from edgeprune.calibrate.selection import Selection, loss_increase
from edgeprune.errors import ModelError
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.events import Progress
from edgeprune.schema.scores import CacheOption

__all__ = ["cache_option"]

_MOST_TOKENS = 16_384
"""What scales are measured on, as at export."""


def cache_option(
    loaded: LoadedModel,
    tokens: Tensor,
    domain: Selection,
    *,
    progress: Progress,
    general: Selection | None = None,
) -> CacheOption | None:
    """The option with its losses; None where the model's attention cannot be watched.

    Args:
        loaded: the dense model.
        tokens: [n, seq] int32 calibration windows.
        domain: selection text of the domain.
        progress: may cancel.
        general: general selection text; None leaves the loss there unmeasured.
    """
    windows = tokens[: max(1, _MOST_TOKENS // tokens.shape[1])]
    try:
        scales = measure_cache_scales(loaded, windows)
        with rounded_cache(loaded, scales):
            increase = loss_increase(loaded, domain, progress=progress)
            elsewhere = None if general is None else loss_increase(loaded, general, progress=progress)
    except ModelError:
        return None
    return CacheOption(kv_bits=8, loss_increase_nats=increase, general_loss_increase_nats=elsewhere)
