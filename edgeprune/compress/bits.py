"""Rounding: every weight takes the values its kernel can hold, last of all passes.

Takes a model whose shapes are final and the kernel of each site and of the tables; puts the dequantised float32 values
in place, both parts of a low-rank site alike. The torch model then computes with exactly the weights the bundle
stores, which makes it the oracle for the bundle. `fp16` rounds through float16: a bfloat16 source may lose values above
65,504 (clipped) and below 6e-8 (zero). Biases, norms and learned positions stay float32.

With `rounding = "gptq"` the model is walked through block by block: a block's inputs are those that the blocks before
it, rounded already, leave; their second moments are held for one block at a time. Of a low-rank site the second part is
rounded so, on what the first one, rounded to nearest as it was fitted for, gives it. A head is rounded on its inputs
too (`matrix_rounding`).
"""

from dataclasses import dataclass

from torch import Tensor, nn

from edgeprune.calibrate.block_stream import BlockStream
from edgeprune.calibrate.matrix_rounding import round_matrix, round_tables
from edgeprune.calibrate.nearest import rounded
from edgeprune.calibrate.statistics import input_key
from edgeprune.compress.factored import FactoredLinear
from edgeprune.compress.head_linear import HeadColumns, HeadRows
from edgeprune.compress.passes import Work, check_finite, linear
from edgeprune.intake.stored.store import keep_rounded
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
        is_whole = bool(integers) or parse_kernel(recipe.table_kernel).kind != "float"
        stream = _stream(work) if recipe.rounding == "gptq" and is_whole else None
        for position, (block, spec) in enumerate(zip(adapter.blocks(model), work.loaded.spec.blocks, strict=True)):
            work.progress.raise_if_cancelled()
            grams = {} if stream is None else stream.grams(position, _inputs(work, block, spec, integers))
            for site in spec.sites:
                if site.name in kernels:
                    gram = grams.get(input_key(site.name)) if site.name in integers else None
                    module = _round_site(site.name, adapter.site(block, site.role), kernels[site.name], gram)
                    adapter.set_site(block, site.role, keep_rounded(block, module, kernels[site.name]))
            if stream is not None:
                stream.advance(position)
            count = len(work.loaded.spec.blocks)
            work.tell(f"block {spec.index} rounded, {position + 1} of {count}", (position + 1) / (count + 1))
        if recipe.table_kernel != FLOAT32:
            gram = None if stream is None else stream.gram_after(adapter.final_norm(model))
            self._round_tables(work, recipe.table_kernel, gram)

    def _round_tables(self, work: Work, kernel: str, gram: Tensor | None) -> None:
        model, adapter = work.loaded.model, work.loaded.adapter
        head = None if work.loaded.spec.is_tied else adapter.head(model).weight
        embedding, head = round_tables(adapter.embedding(model).weight, head, kernel, gram)
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
    if isinstance(module, HeadRows):
        right = round_matrix(module.right, kernel, gram)
        check_finite(name, right)
        return module.with_parameters(right, module.left)
    if isinstance(module, HeadColumns):
        left = round_matrix(module.left, kernel, None if gram is None else gram[module.places][:, module.places])
        check_finite(name, left)
        return module.with_parameters(module.right, left)
    if isinstance(module, FactoredLinear):
        right = rounded(module.right, kernel)
        left = round_matrix(module.left, kernel, None if gram is None else right.double() @ gram @ right.double().T)
        check_finite(name, right, left)
        return module.with_parameters(right, left)
    assert isinstance(module, nn.Linear)
    weight = round_matrix(module.weight, kernel, gram)
    check_finite(name, weight)
    return linear(weight, module.bias)
