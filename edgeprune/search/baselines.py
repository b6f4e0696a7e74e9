"""Plain recipes: the whole model under one kernel, which every table compares with.

`plain int8` and `plain int4` mean all sites, embedding and head at that width, block 32, symmetric, a tied table
stored once.
"""

from edgeprune.schema.kernel import FLOAT32, parse_kernel
from edgeprune.schema.model import ModelSpec
from edgeprune.schema.recipe import Recipe, SiteEdit

__all__ = ["PLAIN_INT4", "PLAIN_INT8", "plain_recipe"]

PLAIN_INT8 = "int8_b32_a4"
PLAIN_INT4 = "int4_b32_a4"


def plain_recipe(spec: ModelSpec, kernel: str, *, context_tokens: int, seed: int) -> Recipe:
    """Every site and table under `kernel`; `fp32` is the dense model.

    Raises:
        UsageError: no such kernel.
    """
    parse_kernel(kernel)
    sites: tuple[SiteEdit, ...] = ()
    if kernel != FLOAT32:
        sites = tuple(SiteEdit(name=site.name, kernel=kernel) for block in spec.blocks for site in block.sites)
    return Recipe(
        model_hash=spec.model_hash,
        technique="plain",
        context_tokens=context_tokens,
        seed=seed,
        table_kernel=kernel,
        sites=sites,
    )
