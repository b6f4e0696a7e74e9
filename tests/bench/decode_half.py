"""Half of the linear parameters gone: does the time per token follow the bytes that are read?

By rank (every site factored; the same with right factors shared by what reads one input; and in the FFNs alone, which
then give two thirds), by channels (two thirds of every FFN,
since attention keeps all of its own) and by depth (every other block), in float32 and in int4. A round's figure is
time / dense over bytes / dense.
"""

from pathlib import Path

import numpy as np
from msgspec.structs import replace

from edgeprune.intake.load import load_model
from edgeprune.schema.model import INPUT_ROLES, MLP_ROLES, BlockSpec, ModelSpec, SiteForm, SiteSpec
from edgeprune.schema.recipe import KeepChannels, Recipe, SiteEdit
from edgeprune.search.baselines import plain_recipe
from edgeprune.shapes import edit_shapes, site_parameter_count
from tests.bench.decode_bytes import bytes_per_token
from tests.bench.decode_models import KERNELS, SIZES, build_ours, kept, random_model, write_ours
from tests.bench.decode_rounds import CONTEXT, PROMPT_TOKENS, Bench, alternate, decoding, opened

LIMITS = {"fp32": 1.08, "int4": 1.15}
STEP = 32
WAYS = ("rank", "shared rank", "rank of FFNs", "channels", "depth")


def run(bench: Bench) -> None:
    """Five ratios a precision."""
    size = SIZES["tiny" if bench.quick else "full"]
    cache = bench.cache / ("tiny" if bench.quick else "full")
    source = random_model(cache, size)
    tokens = np.random.default_rng(0).integers(0, size.vocabulary, PROMPT_TOKENS, dtype=np.int64)
    for precision, limit in LIMITS.items():
        folders = {"dense": build_ours(source, cache / f"ours-{precision}", precision)}
        folders |= {
            way: build_half(source, cache / f"half-{way.replace(' ', '-')}-{precision}", way, precision) for way in WAYS
        }
        read = {way: bytes_per_token(folder, past_tokens=PROMPT_TOKENS) for way, folder in folders.items()}
        sides = {way: decoding(opened(folder, bench.threads), tokens) for way, folder in folders.items()}
        times = alternate(sides, bench.rounds)
        for way in WAYS:
            share = read[way] / read["dense"]
            medians = {f"{name}_s": float(np.median(times[name])) for name in (way, "dense")}
            bench.judge(
                "half",
                f"half by {way}, {precision}: time / bytes ({share:.3f})",
                times[way] / times["dense"] / share,
                limit,
                bytes_ratio=share,
                **medians,
            )


def build_half(source: Path, folder: Path, way: str, precision: str) -> Path:
    """The model with half of its linear parameters, in a precision."""

    def make(partial: Path) -> None:
        dense = load_model(source)
        recipe = half_recipe(dense.spec, way, KERNELS[precision])
        before, after = (linear_parameters(spec) for spec in (dense.spec, edit_shapes(dense.spec, recipe)))
        if after > 0.51 * before:
            raise SystemExit(f"half by {way} keeps {after / before:.2f} of the linear parameters")
        write_ours(dense, recipe, partial)

    return kept(folder, make)


def half_recipe(spec: ModelSpec, way: str, kernel: str) -> Recipe:
    """Half of the parameters of all sites gone, in multiples of 32 that leave no more than half."""
    plain = plain_recipe(spec, kernel, context_tokens=CONTEXT, seed=0)
    edits = {site.name: SiteEdit(name=site.name, kernel=kernel) for block in spec.blocks for site in block.sites}
    if way == "depth":
        gone = tuple(block.index for block in spec.blocks if block.index % 2 == 1)
        left = tuple(edit for edit in edits.values() if int(edit.name.split(".")[1]) not in gone)
        return replace(plain, drop_blocks=gone, sites=left)
    if way == "channels":
        return replace(
            plain,
            keep_channels=tuple(KeepChannels(block=block.index, kept_count=_channels(block)) for block in spec.blocks),
            sites=tuple(edits.values()),
            technique=None,
        )
    if way == "shared rank":
        return replace(plain, sites=tuple(edit for block in spec.blocks for edit in _shared(block, edits)))
    ranked = tuple(
        replace(edits[site.name], rank=_rank(block, site, way), method="laser")
        if way == "rank" or site.role in MLP_ROLES
        else edits[site.name]
        for block in spec.blocks
        for site in block.sites
    )
    return replace(plain, sites=ranked)


def linear_parameters(spec: ModelSpec) -> int:
    """Of all sites, biases not counted."""
    sites = [replace(site, has_bias=False) for block in spec.blocks for site in block.sites]
    return sum(map(site_parameter_count, sites))


def _shared(block: BlockSpec, edits: dict[str, SiteEdit]) -> list[SiteEdit]:
    """Half of what reads one input in a right factor and left ones, half of every other site in two."""
    found = []
    for roles in (*INPUT_ROLES, ("o",), ("down",)):
        group = [site for site in block.sites if site.role in roles]
        whole = replace(group[0], out_features=sum(site.out_features for site in group))
        forms: list[SiteForm] = ["factors" if site is group[0] else "shared" for site in group]
        found += [
            replace(edits[site.name], rank=_rank(block, whole, "rank"), method="laser", form=form)
            for site, form in zip(group, forms, strict=True)
        ]
    return found


def _rank(block: BlockSpec, site: SiteSpec, way: str) -> int:
    share = 0.5 if way == "rank" else _ffn_share(block)
    rank = share * site.in_features * site.out_features / (site.in_features + site.out_features)
    return max(STEP // 8, int(rank) // STEP * STEP)


def _channels(block: BlockSpec) -> int:
    return int(_ffn_share(block) * block.intermediate_size) // STEP * STEP or STEP


def _ffn_share(block: BlockSpec) -> float:
    """What may stay of an FFN where half of the block goes and attention stays whole."""
    sizes = {site.role: site.in_features * site.out_features for site in block.sites}
    ffn = sum(size for role, size in sizes.items() if role in MLP_ROLES)
    return 1.0 - sum(sizes.values()) / 2 / ffn
