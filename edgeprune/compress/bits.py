"""Rounding: every weight takes the values its kernel can hold, last of all passes.

Takes a model whose shapes are final and the kernel of each site and of the tables; puts the dequantised float32 values
in place, both parts of a low-rank site alike. The torch model then computes with exactly the weights the bundle
stores, which makes it the oracle for the bundle. `fp16` rounds through float16: a bfloat16 source may lose values above
65,504 (clipped) and below 6e-8 (zero). Biases, norms and learned positions stay float32.

With `rounding = "gptq"` the model is walked through block by block: a block's inputs are those that the blocks before
it, rounded already, leave; their second moments are held for one block at a time. Of a low-rank site the second part is
rounded so, on what the first one, rounded to nearest as it was fitted for, gives it. Tables are rounded to nearest: a
row of the embedding is read alone.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgeprune.calibrate.statistics import input_key
from edgeprune.compress.block_stream import BlockStream
from edgeprune.compress.factored import FactoredLinear
from edgeprune.compress.gptq import gptq
from edgeprune.compress.nearest import rounded
from edgeprune.compress.passes import Work, check_finite, linear
from edgeprune.schema.kernel import FLOAT32, parse_kernel
from edgeprune.schema.model import BlockSpec
from edgeprune.schema.recipe import Recipe

__all__ = ["RoundWeights"]

_TOKENS = 8_192
"""Calibration tokens the inputs are measured on."""
_STREAM_BYTES = 256 << 20
"""Of the hidden states held meanwhile; fewer tokens where they would take more."""


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
        integers = {name for name, kernel in kernels.items() if parse_kernel(kernel).kind != "float"}
        model, adapter = work.loaded.model, work.loaded.adapter
        stream = _stream(work) if recipe.rounding == "gptq" and integers else None
        for position, (block, spec) in enumerate(zip(adapter.blocks(model), work.loaded.spec.blocks, strict=True)):
            work.progress.raise_if_cancelled()
            grams = {} if stream is None else stream.grams(position, _inputs(work, block, spec, integers))
            for site in spec.sites:
                if site.name in kernels:
                    gram = grams.get(input_key(site.name)) if site.name in integers else None
                    module = _round_site(site.name, adapter.site(block, site.role), kernels[site.name], gram)
                    adapter.set_site(block, site.role, module)
            if stream is not None:
                stream.advance(position)
        if recipe.table_kernel != FLOAT32:
            self._round_tables(work, recipe.table_kernel)

    def _round_tables(self, work: Work, kernel: str) -> None:
        model, adapter = work.loaded.model, work.loaded.adapter
        embedding = rounded(adapter.embedding(model).weight, kernel)
        head = None if work.loaded.spec.is_tied else rounded(adapter.head(model).weight, kernel)
        check_finite("The vocabulary table", embedding, head)
        adapter.set_tables(model, embedding, head)


def _stream(work: Work) -> BlockStream:
    """The calibration windows, as many as are read and can be held."""
    tokens = work.stats.tokens
    most = min(_TOKENS, _STREAM_BYTES // (4 * work.loaded.spec.hidden_size))
    return BlockStream(work.loaded, tokens[: max(1, most // tokens.shape[1])])


def _inputs(work: Work, block: nn.Module, spec: BlockSpec, names: set[str]) -> dict[str, nn.Module]:
    """By input key, one of the sites it feeds."""
    adapter = work.loaded.adapter
    return {input_key(site.name): adapter.site(block, site.role) for site in spec.sites if site.name in names}


def _round_site(name: str, module: nn.Module, kernel: str, gram: Tensor | None) -> nn.Module:
    """The site rounded; with the second moment of its inputs where errors are weighed by it."""
    if isinstance(module, FactoredLinear):
        right = rounded(module.right, kernel)
        left = _rounded(module.left, kernel, None if gram is None else right.double() @ gram @ right.double().T)
        check_finite(name, right, left)
        return module.with_parameters(right, left)
    assert isinstance(module, nn.Linear)
    weight = _rounded(module.weight, kernel, gram)
    check_finite(name, weight)
    return linear(weight, module.bias)


def _rounded(weight: Tensor, kernel: str, gram: Tensor | None) -> Tensor:
    if gram is None:
        return rounded(weight, kernel)
    found = gptq(weight, gram, kernel)
    # The greedy order is no guarantee; where it does worse than each weight alone, that is taken.
    nearest = rounded(weight, kernel)
    errors = [
        ((weight.detach() - each).double() @ gram * (weight.detach() - each)).sum(dim=1) for each in (found, nearest)
    ]
    return torch.where((errors[0] <= errors[1])[:, None], found, nearest)
