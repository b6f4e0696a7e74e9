"""`load_once`: the dense model of a worker, kept from one task to the next.

Shards of a calibration and evaluations of recipes come to the same worker process one after the other; they share one
copy of the model.
"""

import functools
from pathlib import Path

from edgeprune.errors import ModelError
from edgeprune.intake.load import LoadedModel, load_model

__all__ = ["load_once"]


@functools.lru_cache(maxsize=1)
def load_once(folder: str, model_hash: str) -> LoadedModel:
    """The model of a folder, which must be the one with that hash; it is shared, so nobody may change it.

    Raises:
        ModelError: as `load_model`; or the folder holds another model.
    """
    loaded = load_model(Path(folder))
    if loaded.spec.model_hash != model_hash:
        raise ModelError(f"{folder} holds another model here than where the run was started; copy it again.")
    return loaded
