"""Right factors that several sites read their input through, held once.

Passes make each site by itself, so sites that share a right factor leave a pass with a copy each, of the same values.
`share_right_factors` makes them one parameter again, which is then stored, trained and rounded once.
"""

from collections.abc import Sequence

import torch
from torch import nn

from edgeprune.compress.factored import FactoredLinear, SharedLinear
from edgeprune.errors import ModelError
from edgeprune.intake.adapters.base import Adapter
from edgeprune.schema.model import SiteSpec
from edgeprune.sharing import groups_of_one_factor

__all__ = ["share_right_factors"]


def share_right_factors(
    adapter: Adapter, block: nn.Module, sites: Sequence[SiteSpec], *, has_values: bool = True
) -> None:
    """Give the sites of each shared right factor of a block the parameter of its owner, in place.

    Args:
        adapter: of the model.
        block: of the model.
        sites: its sites as they are now.
        has_values: False while the layers wait for theirs, which are then not compared.

    Raises:
        ModelError: the copies differ, so that a pass has changed one and not the others.
    """
    for owner, *others in groups_of_one_factor(sites):
        for site in others:
            right = _layer(adapter.site(block, owner.role)).right
            layer = _layer(adapter.site(block, site.role))
            assert isinstance(layer, SharedLinear), site.name
            if has_values and layer.right is not right and not torch.equal(layer.right.detach(), right.detach()):
                raise ModelError(
                    f"Compression went wrong: the right factor of {site.name} is no longer that of {owner.name}; "
                    "please report this with the recipe."
                )
            layer.right = right


def _layer(module: nn.Module) -> FactoredLinear:
    assert isinstance(module, FactoredLinear)
    return module
