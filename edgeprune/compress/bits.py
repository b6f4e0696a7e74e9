"""Rounding: every weight takes the values its kernel can hold, last of all passes.

Takes a model whose shapes are final and the kernel of each site and of the tables; puts the dequantised float32 values
in place, both parts of a low-rank site alike. The torch model then computes with exactly the weights the bundle
stores, which makes it the oracle for the bundle. `fp16` rounds through float16: a bfloat16 source may lose values above
65,504 (clipped) and below 6e-8 (zero). Biases, norms and learned positions stay float32.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgeprune.compress.factored import FactoredLinear
from edgeprune.compress.passes import Work, check_finite, linear
from edgeprune.rounding import dequantized
from edgeprune.schema.kernel import FLOAT32
from edgeprune.schema.recipe import Recipe

__all__ = ["RoundWeights", "rounded"]


def rounded(weight: Tensor, kernel: str) -> Tensor:
    """A new float32 tensor with the values a kernel computes with.

    Args:
        weight: [out, in] float32.
        kernel: its name.
    """
    return torch.from_numpy(dequantized(weight.detach().contiguous().numpy(), kernel))


@dataclass(frozen=True)
class RoundWeights:
    """The pass."""

    name: str = "bits"
    reads_stats: bool = False
    changes_inputs: bool = True

    def part(self, applied: Recipe, recipe: Recipe) -> Recipe:
        """Adds kernels, which completes the recipe."""
        return recipe

    def apply(self, work: Work, recipe: Recipe) -> None:
        """Round sites and tables."""
        kernels = {edit.name: edit.kernel for edit in recipe.sites if edit.kernel != FLOAT32}
        model, adapter = work.loaded.model, work.loaded.adapter
        for block, spec in zip(adapter.blocks(model), work.loaded.spec.blocks, strict=True):
            work.progress.raise_if_cancelled()
            for site in spec.sites:
                if site.name in kernels:
                    adapter.set_site(block, site.role, _round_site(site.name, adapter.site(block, site.role), kernels))
        if recipe.table_kernel != FLOAT32:
            self._round_tables(work, recipe.table_kernel)

    def _round_tables(self, work: Work, kernel: str) -> None:
        model, adapter = work.loaded.model, work.loaded.adapter
        embedding = rounded(adapter.embedding(model).weight, kernel)
        head = None if work.loaded.spec.is_tied else rounded(adapter.head(model).weight, kernel)
        check_finite("The vocabulary table", embedding, head)
        adapter.set_tables(model, embedding, head)


def _round_site(name: str, module: nn.Module, kernels: dict[str, str]) -> nn.Module:
    kernel = kernels[name]
    if isinstance(module, FactoredLinear):
        right, left = rounded(module.right, kernel), rounded(module.left, kernel)
        check_finite(name, right, left)
        return module.with_parameters(right, left)
    assert isinstance(module, nn.Linear)
    weight = rounded(module.weight, kernel)
    check_finite(name, weight)
    return linear(weight, module.bias)
