"""Adapters of low rank beside every matrix, trained while the matrix stands still, then added to it.

A matrix kept whole takes its adapter in as W + s B A, which changes no shape. A factored site is W' = L F: an adapter
beside the product would raise its rank to r + r_l and would have to be cut again, so each factor gets one of its own,
L + s B A and F + s B' A', and the rank stays r as it is; a right factor that sites share gets one. Hu et al. 2021
(LoRA), through peft.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from edgeprune.compress.factored import FactoredLinear, SharedLinear
from edgeprune.compress.head_linear import HeadColumns, HeadRows
from edgeprune.compress.passes import linear
from edgeprune.compress.pivoted import PivotedLinear
from edgeprune.compress.recover.trained import Named
from edgeprune.errors import UsageError
from edgeprune.intake.load import LoadedModel

__all__ = ["ADAPTER_RANK", "adapters"]

ADAPTER_RANK = 8
_SCALE = 2.0
"""s of the formulas: alpha / rank."""


class _Pair(nn.Module):
    """A factored site whose factors are modules, so that each can take an adapter."""

    owner: "_Pair | None"
    """The pair whose right factor this one's site shares; None where it has its own."""

    def __init__(self, site: FactoredLinear, owner: "_Pair | None") -> None:
        super().__init__()
        # Not a child module: the adapter of a right factor that is shared stands once.
        object.__setattr__(self, "owner", owner)
        if owner is None:
            self.right_factor: nn.Module = linear(site.right, None)
        self.left_factor: nn.Module = linear(site.left, None)
        self.site_bias = site.bias
        self.order = site.order if isinstance(site, PivotedLinear) else None

    def forward(self, inputs: Tensor) -> Tensor:
        inner = (self if self.owner is None else self.owner).right_factor(inputs)
        outputs: Tensor = self.left_factor(inner)
        if self.order is not None:
            outputs = torch.cat([inner, outputs], dim=-1)[..., self.order]
        return outputs if self.site_bias is None else outputs + self.site_bias


@contextmanager
def adapters(loaded: LoadedModel, *, seed: int) -> Iterator[Named]:
    """Adapters stand beside all sites while the block runs, and are added to the weights when it ends well.

    Args:
        loaded: its sites are exchanged for the time, and have the same shapes as before afterwards.
        seed: of the adapters' first values.

    Yields:
        The adapters' parameters by name; B is zero, so the model computes as before.

    Raises:
        UsageError: peft is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model  # an extra: it loads only where it is asked for
        from peft.tuners.lora import LoraLayer
    except ImportError as error:
        raise UsageError(
            "--recover-mode lora needs peft, which is not installed; install edgeprune[compress], or take another mode."
        ) from error
    model = loaded.model
    originals = _opened(loaded)
    paths = [
        f"{path}.{factor}"
        for path, site in originals.items()
        if isinstance(site, FactoredLinear)
        for factor in _own_factors(site)
    ]
    paths += [path for path, site in originals.items() if isinstance(site, nn.Linear)]
    rank = min([ADAPTER_RANK, *(min(model.get_submodule(path).weight.shape) for path in paths)])
    config = LoraConfig(r=rank, lora_alpha=int(_SCALE * rank), target_modules=paths, lora_dropout=0.0)
    finished = False
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            inject_adapter_in_model(config, model)
        model.requires_grad_(False)
        model.eval()
        yield {name: value for name, value in model.named_parameters() if ".lora_" in name}
        finished = True
    finally:
        for path in paths:
            module = model.get_submodule(path)
            if isinstance(module, LoraLayer):
                if finished:
                    module.merge()
                model.set_submodule(path, module.get_base_layer())
        _close(loaded, originals)
        vars(model).pop("peft_config", None)  # peft's own note, which would warn of a second adapter


def _own_factors(site: FactoredLinear) -> tuple[str, ...]:
    """Those that the site stores itself."""
    if isinstance(site, (SharedLinear, HeadColumns)):
        return ("left_factor",)
    return ("right_factor",) if isinstance(site, HeadRows) else ("right_factor", "left_factor")


def _opened(loaded: LoadedModel) -> dict[str, nn.Module]:
    """Put pairs in the places of factored sites; path -> what stood there, of all sites."""
    found: dict[str, nn.Module] = {}
    owners: dict[int, _Pair] = {}
    for position, block in enumerate(loaded.adapter.blocks(loaded.model)):
        for role in loaded.adapter.present_roles(block):
            site = loaded.adapter.site(block, role)
            found[f"{loaded.adapter.block_path(position)}.{loaded.adapter.module_path(role)}"] = site
            if isinstance(site, FactoredLinear):
                pair = _Pair(site, owners.get(id(site.right)) if isinstance(site, SharedLinear) else None)
                owners[id(site.right)] = pair if pair.owner is None else pair.owner
                loaded.adapter.set_site(block, role, pair)
    return found


def _close(loaded: LoadedModel, originals: dict[str, nn.Module]) -> None:
    """Put the factored sites back, with the weights their factors have now."""
    for path, site in originals.items():
        if isinstance(site, FactoredLinear):
            pair = loaded.model.get_submodule(path)
            assert isinstance(pair, _Pair)
            for name in _own_factors(site):
                weight = pair.get_submodule(name).weight
                assert isinstance(weight, nn.Parameter)
                getattr(site, name.removesuffix("_factor")).data = weight.detach()
            loaded.model.set_submodule(path, site)
