"""What an edit does to shapes: the one function that knows it.

`edit_shapes(spec, recipe)` takes the dense model's shapes and a recipe and gives the edited model's shapes. The
predictor prices its result, compression and export must reproduce it, validation checks the bundle against it.
"""

import difflib

from msgspec.structs import replace

from edgeprune.errors import RecipeError, UsageError
from edgeprune.schema.kernel import parse_kernel
from edgeprune.schema.model import MLP_ROLES, BlockSpec, ModelSpec, SiteForm, SiteSpec
from edgeprune.schema.recipe import KeepChannels, Recipe, SiteEdit
from edgeprune.sharing import check_ranks
from edgeprune.value_heads import check_heads

__all__ = [
    "attention_only",
    "block_parameter_count",
    "break_even_rank",
    "count_parameters",
    "edit_shapes",
    "mlp_only",
    "repair_parameter_count",
    "site_parameter_count",
    "stored_matrices",
    "with_groups",
    "with_kv_bits",
]


def break_even_rank(in_features: int, out_features: int, form: SiteForm = "factors") -> int:
    """Largest rank at which a form holds fewer parameters than the dense matrix.

    Two factors: r (in + out) < in * out. Pivot form: r (in + out - r) < in * out, which any rank below full keeps, as
    do the forms of few values a head, r in and r out.
    """
    if form in ("pivot", "head_rows", "head_columns"):
        return min(in_features, out_features) - 1
    return (in_features * out_features - 1) // (in_features + out_features)


def stored_matrices(
    in_features: int, out_features: int, rank: int | None, form: SiteForm = "factors"
) -> tuple[tuple[int, int], ...]:
    """(in, out) of the matrices a site is stored as, in the order in which they multiply."""
    if rank is None:
        return ((in_features, out_features),)
    if form in ("shared", "head_columns"):
        return ((rank, out_features),)
    if form == "head_rows":
        return ((in_features, rank),)
    return (in_features, rank), (rank, out_features - rank if form == "pivot" else out_features)


def site_parameter_count(site: SiteSpec) -> int:
    """Stored parameters of a site, bias included; the row order of the pivot form is no parameter."""
    matrices = stored_matrices(site.in_features, site.out_features, site.rank, site.form)
    return sum(width * height for width, height in matrices) + (site.out_features if site.has_bias else 0)


def block_parameter_count(block: BlockSpec) -> int:
    """Stored parameters of a block, norms included; a repair before it is counted apart."""
    return block.norm_parameter_count + sum(site_parameter_count(site) for site in block.sites)


def repair_parameter_count(hidden_size: int, rank: int) -> int:
    """Stored parameters of one repair: both factors and the intercept."""
    return 2 * hidden_size * rank + hidden_size


def count_parameters(spec: ModelSpec) -> int:
    """Stored parameters of a model, repairs included; a tied table counts once."""
    ranks = [block.repair_rank for block in spec.blocks if block.repair_rank is not None]
    repairs = sum(repair_parameter_count(spec.hidden_size, rank) for rank in ranks)
    tables = spec.vocab_size * spec.hidden_size * (1 if spec.is_tied else 2)
    blocks = sum(map(block_parameter_count, spec.blocks))
    return tables + spec.position_parameter_count + spec.final_norm_parameter_count + blocks + repairs


def mlp_only(spec: ModelSpec, block: BlockSpec) -> BlockSpec:
    """The block without its attention: no heads, no key-value cache, the MLP's norm alone."""
    return replace(
        block,
        num_heads=0,
        num_kv_heads=0,
        sites=tuple(site for site in block.sites if site.role in MLP_ROLES),
        norm_parameter_count=_mlp_norm_parameter_count(spec, block) if block.has_mlp else 0,
    )


def attention_only(spec: ModelSpec, block: BlockSpec) -> BlockSpec:
    """The block without its MLP: no channels, the attention's norms alone."""
    mlp_norm = _mlp_norm_parameter_count(spec, block) if block.has_mlp else 0
    return replace(
        block,
        intermediate_size=0,
        sites=tuple(site for site in block.sites if site.role not in MLP_ROLES),
        norm_parameter_count=block.norm_parameter_count - mlp_norm,
    )


def with_groups(block: BlockSpec, kept: int | None, *, adds_bias: bool = False) -> BlockSpec:
    """The block with that many key-value groups (None: all), each with the query heads that read it.

    With `adds_bias` o has a bias afterwards where any group leaves.
    """
    if kept is None or kept == block.num_kv_heads:
        return block
    query_heads = kept * (block.num_heads // block.num_kv_heads)
    query, key = query_heads * block.head_dim, kept * block.head_dim
    widths = {"q": query, "k": key, "v": key, "qkv": query + 2 * key}
    sites = tuple(
        replace(site, in_features=query, has_bias=site.has_bias or adds_bias)
        if site.role == "o"
        else replace(site, out_features=widths.get(site.role, site.out_features))
        for site in block.sites
    )
    return replace(block, num_heads=query_heads, num_kv_heads=kept, sites=sites)


def with_kv_bits(blocks: tuple[BlockSpec, ...], bits: int) -> tuple[BlockSpec, ...]:
    """The blocks with a cache of so many bits, where they have one; scales are no parameters."""
    return tuple(replace(block, kv_bits=bits) if block.has_attention else block for block in blocks)


def _mlp_norm_parameter_count(spec: ModelSpec, block: BlockSpec) -> int:
    """What leaves with the MLP: as stated, or one norm of the model's width; all others belong to the attention."""
    if block.mlp_norm_parameter_count is not None:
        return block.mlp_norm_parameter_count
    return spec.hidden_size * (1 if spec.norm_kind == "rms" else 2)


def edit_shapes(spec: ModelSpec, recipe: Recipe) -> ModelSpec:
    """Shapes of the model after a recipe.

    Raises:
        RecipeError: the recipe does not fit the model; the message names the entry.
    """
    if recipe.model_hash != spec.model_hash:
        raise RecipeError(
            f"The recipe was made for a model with hash {recipe.model_hash[:12]}, this one has "
            f"{spec.model_hash[:12]}; search again for this model.",
            "model_hash",
        )
    known_blocks = {block.index for block in spec.blocks}
    dropped = set(recipe.drop_blocks)
    for position, index in enumerate(recipe.drop_blocks):
        where = ("drop_blocks", position)
        if index not in known_blocks:
            span = _span(known_blocks)
            raise RecipeError(f"recipe drop_blocks: the model has no block {index}; it has {span}.", *where)
        if index in recipe.drop_blocks[:position]:
            raise RecipeError(f"recipe drop_blocks: block {index} is listed twice.", *where)
    if dropped >= known_blocks:
        raise RecipeError("recipe drop_blocks removes every block; keep at least one.", "drop_blocks")
    _check_parts(recipe, known_blocks)
    gone = {(index, is_mlp) for index in dropped for is_mlp in (False, True)}
    gone |= {(index, False) for index in recipe.drop_attention} | {(index, True) for index in recipe.drop_mlp}
    channels = _channels(spec, recipe, gone)
    groups = _group_counts(spec, recipe, gone)
    edits = _site_edits(spec, recipe, gone)
    _check_kernel(recipe.table_kernel, "recipe table_kernel", "table_kernel")
    if recipe.recovery is not None and recipe.recovery.defect is not None:
        raise RecipeError(f"recipe recovery: {recipe.recovery.defect}.", "recovery")
    vocab_size = spec.vocab_size
    if recipe.keep_tokens is not None:
        if not 1 <= recipe.keep_tokens.kept_count <= spec.vocab_size:
            count = recipe.keep_tokens.kept_count
            message = f"recipe keep_tokens: kept_count {count} must lie in 1..{spec.vocab_size}."
            raise RecipeError(message, "keep_tokens", "kept_count")
        vocab_size = recipe.keep_tokens.kept_count
    biased = {entry.block for entry in recipe.keep_groups if entry.adds_bias}
    blocks = tuple(
        _edit_block(
            with_groups(_without_parts(spec, block, recipe), groups.get(block.index), adds_bias=block.index in biased),
            channels.get(block.index),
            edits,
        )
        for block in spec.blocks
        if block.index not in dropped
    )
    if not any(block.has_attention for block in blocks):
        raise RecipeError(
            "recipe drop_attention: no attention is left; keep it in at least one block.", "drop_attention"
        )
    ranks = _repair_ranks(spec, recipe)
    blocks = tuple(replace(block, repair_rank=ranks.get(block.index, block.repair_rank)) for block in blocks)
    blocks = with_kv_bits(blocks, recipe.kv_bits)
    edited = replace(spec, blocks=blocks, vocab_size=vocab_size, table_kernel=recipe.table_kernel)
    return replace(edited, parameter_count=count_parameters(edited))


def _without_parts(spec: ModelSpec, block: BlockSpec, recipe: Recipe) -> BlockSpec:
    if block.index in recipe.drop_attention:
        return mlp_only(spec, block)
    return attention_only(spec, block) if block.index in recipe.drop_mlp else block


def _check_parts(recipe: Recipe, known_blocks: set[int]) -> None:
    for key, indices in (("drop_attention", recipe.drop_attention), ("drop_mlp", recipe.drop_mlp)):
        for position, index in enumerate(indices):
            where = (key, position)
            if index not in known_blocks:
                span = _span(known_blocks)
                raise RecipeError(f"recipe {key}: the model has no block {index}; it has {span}.", *where)
            if index in recipe.drop_blocks:
                raise RecipeError(f"recipe {key}: block {index} is in drop_blocks already; leave it out here.", *where)
            if index in indices[:position]:
                raise RecipeError(f"recipe {key}: block {index} is listed twice.", *where)
            if key == "drop_mlp" and index in recipe.drop_attention:
                raise RecipeError(
                    f"recipe drop_attention and drop_mlp both name block {index}; list it in drop_blocks instead.",
                    *where,
                )


def _repair_ranks(spec: ModelSpec, recipe: Recipe) -> dict[int, int]:
    """Block whose input a repair works on -> its rank."""
    runs = {run.block: run for run in recipe.drops.runs}
    last = max(block.index for block in spec.blocks)
    ranks: dict[int, int] = {}
    for position, repair in enumerate(recipe.repairs):
        where, place = f"recipe repairs block {repair.block}", ("repairs", position)
        if repair.block not in runs:
            starts = ", ".join(map(str, sorted(runs))) or "none"
            message = f"{where}: no dropped run begins in that block; runs begin in {starts}."
            raise RecipeError(message, *place, "block")
        run = runs[repair.block]
        if run.next_block > last:
            message = f"{where}: nothing is kept after this run, so no block is left to repair the input of."
            raise RecipeError(message, *place, "block")
        if run.next_block in ranks:
            raise RecipeError(f"{where} is listed twice.", *place, "block")
        if not 1 <= repair.rank <= spec.hidden_size:
            message = f"{where}: rank {repair.rank} must lie in 1..{spec.hidden_size}, the width of the model."
            raise RecipeError(message, *place, "rank")
        ranks[run.next_block] = repair.rank
    return ranks


def _edit_block(block: BlockSpec, kept: KeepChannels | None, edits: dict[str, tuple[int, SiteEdit]]) -> BlockSpec:
    sites = []
    for site in block.sites:
        changed = site
        if kept is not None:
            if site.role in ("gate", "up"):
                changed = replace(changed, out_features=kept.kept_count)
            elif site.role == "down":
                has_bias = changed.has_bias or kept.adds_bias
                changed = replace(changed, in_features=kept.kept_count, has_bias=has_bias)
        if site.name in edits:
            _, edit = edits[site.name]
            form = edit.form if edit.rank is not None else "factors"
            changed = replace(changed, rank=edit.rank, kernel=edit.kernel, form=form)
        sites.append(changed)
    check_ranks(sites, edits)
    check_heads(block, sites, edits)
    size = block.intermediate_size if kept is None else kept.kept_count
    return replace(block, sites=tuple(sites), intermediate_size=size)


def _channels(spec: ModelSpec, recipe: Recipe, gone: set[tuple[int, bool]]) -> dict[int, KeepChannels]:
    widths = {block.index: block.intermediate_size for block in spec.blocks}
    entries: dict[int, KeepChannels] = {}
    for position, entry in enumerate(recipe.keep_channels):
        where, place = f"recipe keep_channels block {entry.block}", ("keep_channels", position)
        if entry.block not in widths:
            span = _span(set(widths))
            raise RecipeError(f"{where}: the model has no such block; it has {span}.", *place, "block")
        if (entry.block, True) in gone:
            raise RecipeError(f"{where}: the recipe drops this block's MLP.", *place, "block")
        if entry.block in entries:
            raise RecipeError(f"{where} is listed twice.", *place, "block")
        if not 1 <= entry.kept_count <= widths[entry.block]:
            message = f"{where}: kept_count {entry.kept_count} must lie in 1..{widths[entry.block]}."
            raise RecipeError(message, *place, "kept_count")
        entries[entry.block] = entry
    return entries


def _group_counts(spec: ModelSpec, recipe: Recipe, gone: set[tuple[int, bool]]) -> dict[int, int]:
    blocks = {block.index: block for block in spec.blocks}
    counts: dict[int, int] = {}
    for position, entry in enumerate(recipe.keep_groups):
        where, place = f"recipe keep_groups block {entry.block}", ("keep_groups", position)
        if entry.block not in blocks:
            raise RecipeError(f"{where}: the model has no such block; it has {_span(set(blocks))}.", *place, "block")
        if (entry.block, False) in gone:
            raise RecipeError(f"{where}: the recipe drops this block's attention.", *place, "block")
        if entry.block in counts:
            raise RecipeError(f"{where} is listed twice.", *place, "block")
        block = blocks[entry.block]
        if not 1 <= entry.kept_count <= block.num_kv_heads:
            raise RecipeError(
                f"{where}: kept_count {entry.kept_count} must lie in 1..{block.num_kv_heads}, the block's key-value "
                f"heads; drop_attention removes all of them.",
                *place,
                "kept_count",
            )
        if block.num_heads % block.num_kv_heads:
            raise RecipeError(
                f"{where}: its {block.num_heads} query heads do not divide into {block.num_kv_heads} key-value groups, "
                "so no group can leave; take the entry out.",
                *place,
                "block",
            )
        counts[entry.block] = entry.kept_count
    return counts


_TABLES = ("embedding", "embed_tokens", "embed_in", "embed_out", "head", "lm_head", "table", "wte")
"""What people call them."""


def _site_edits(spec: ModelSpec, recipe: Recipe, gone: set[tuple[int, bool]]) -> dict[str, tuple[int, SiteEdit]]:
    """Site -> its position in the recipe and its edit."""
    known = {site.name: (block.index, site.role in MLP_ROLES) for block in spec.blocks for site in block.sites}
    edits: dict[str, tuple[int, SiteEdit]] = {}
    for position, edit in enumerate(recipe.sites):
        where, place = f"recipe site {edit.name}", ("sites", position)
        if edit.name not in known:
            if edit.name.split(".")[-1] in _TABLES:
                are = "are one matrix in this model" if spec.is_tied else "are no sites of a block"
                message = f"{where}: embedding and head {are} and change together; use keep_tokens or table_kernel."
                raise RecipeError(message, *place, "name")
            nearest = ", ".join(difflib.get_close_matches(edit.name, known, n=3, cutoff=0.0))
            raise RecipeError(f"{where}: the model has no such site; nearest are {nearest}.", *place, "name")
        if known[edit.name] in gone:
            raise RecipeError(f"{where}: the recipe drops the part of the block it belongs to.", *place, "name")
        if edit.name in edits:
            raise RecipeError(f"{where} is listed twice.", *place, "name")
        if edit.rank is not None and edit.rank < 1:
            raise RecipeError(f"{where}: rank {edit.rank} must be at least 1.", *place, "rank")
        if edit.rank is None and edit.form != "factors":
            raise RecipeError(f"{where}: form {edit.form} stores a rank; give one, or take form out.", *place, "form")
        _check_kernel(edit.kernel, where, *place, "kernel")
        edits[edit.name] = position, edit
    return edits


def _check_kernel(name: str, where: str, *entry: str | int) -> None:
    try:
        parse_kernel(name)
    except UsageError as error:
        raise RecipeError(f"{where}: {error}", *entry) from None


def _span(indices: set[int]) -> str:
    return f"blocks {min(indices)}..{max(indices)}"
