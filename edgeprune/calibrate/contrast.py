"""How much more a channel does on the domain than on general text, so that a report can say what was forgotten.

Importance of a channel j that down reads is s_j = E[h_j^2] ||W_:j||^2; on two texts W is the same, so

    contrast_j = s_j(domain) / s_j(general) = E_domain[h_j^2] / E_general[h_j^2]                       (1)

Above one the channel does more on the domain, below one on general text. Dropped channels of low contrast are general
knowledge given up, of high contrast the domain's own.
"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["channel_contrast"]

_SMALLEST = 1e-9
"""Share of the mean second moment added to both: channels that fire on neither text have contrast one."""


def channel_contrast(domain: Tensor, general: Tensor, order: NDArray[np.int64]) -> NDArray[np.float64]:
    """[in] float64 contrast of the channels in the order in which they are kept.

    Args:
        domain: [in, in] float64 second moment of down's input on the domain's text.
        general: the same on general text, around the same mean.
        order: [in] channels to keep first.
    """
    here, there = domain.diagonal().numpy(), general.diagonal().numpy()
    least = max(_SMALLEST * float(here.mean() + there.mean()), np.finfo(np.float64).tiny)
    contrast: NDArray[np.float64] = (np.maximum(here, 0.0) + least) / (np.maximum(there, 0.0) + least)  # eq. (1)
    return contrast[order]
