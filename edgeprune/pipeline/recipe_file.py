"""`recipe.toml`: written for people to read and edit, read back strictly, every refusal with its line."""

import re
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from edgeprune.artifacts import atomic_write
from edgeprune.errors import RecipeError, UsageError
from edgeprune.pipeline.toml_lines import Entry, line_of
from edgeprune.schema.base import SCHEMA_VERSION
from edgeprune.schema.model import ModelSpec
from edgeprune.schema.recipe import KeepChannels, KeepGroups, Recipe, SiteEdit
from edgeprune.schema.recovery import Recovery
from edgeprune.schema.run import RunRequest
from edgeprune.shapes import edit_shapes

__all__ = ["adopt_recipe", "parse_recipe", "read_recipe_file", "recipe_toml", "write_recipe_file"]

HEADER = """\
# What is done to the model, in order: blocks, tokens, groups, channels, ranks, refit, recovery, bits, cache. Edit it,
# then run the same `edgeprune run` again (or `compress`, `export`, `validate`): it runs as written, or is refused with
# the line.
# `edgeprune explain` says what each choice costs and saves.
#
# model_hash      the dense model this is for; it fits no other
# technique       a name for reports
# context_tokens  tokens the bundle is made for; `--context` changes them
# drop_blocks     blocks left out, counted from 0 in the dense model
# drop_attention  blocks that keep their MLP alone; drop_mlp: blocks that keep their attention alone
# repairs         { block = B, rank = R }: a small operator in the place of the dropped run that begins in block B
# keep_tokens     { kept_count = N }: the N tokens the domain uses most stay; leave it out to keep all
# keep_channels   { block = B, kept_count = N }: the N most important FFN channels of block B stay; with criterion =
#                 "output" (the default), "obs", "contextual", "flap" or "wanda", and compensate = false to slice only
# keep_groups     { block = B, kept_count = N }: N key-value groups of block B stay, with the query heads that read
#                 them; with criterion = "obs" (the default), "flap" or "wanda", and compensate = false to slice only
# table_kernel    how embedding and head are stored
# sites           one weight matrix each; those not listed stay whole, in fp32
#     name        blocks.B.q, k, v, o, gate, up or down, as the model has them
#     kernel      fp32, fp16, int8_b32_a4, int4_b32_a4 and the like: bits, weights that share a scale, accuracy level
#     rank        two factors of that rank instead of one matrix; leave it out to keep one matrix
#     method      how they are made: lowrank (least error on the domain) or laser (plain SVD)
#     form        how the rank is stored: factors; pivot (rows and what makes the others of them: fewer numbers);
#                 shared (the right factor of the nearest of q, k, v, or of gate, up, before it that has one); or
#                 head_rows for v and head_columns for its o (rank / heads numbers of every head, one matrix each)
# refit           true: the output projections are solved for once more, to reach what the dense model has there
# recovery        { mode = "auto", "blockwise", "distill" or "lora", steps = N, block_steps = N, adapt_steps = N }:
#                 training before the bits, and of the dense model before all else (adapt_steps, auto alone), as
#                 `--recover-minutes` planned it; leave it out to train nothing
# rounding        "gptq": weights become integers column by column, later ones making up for earlier ones' errors on the
#                 calibration text; without it each goes to the nearest
# kv_bits         8: keys and values are cached in 8 bits; without it in 32
"""

_PLACE = re.compile(r"\$((?:\.\w+|\[\d+\])*)`")
_UNKNOWN = re.compile(r"unknown field `([^`]*)`")
_TOML_LINE = re.compile(r" \(at line (\d+), column \d+\)| \(at end of document\)")


def adopt_recipe(request: RunRequest, spec: ModelSpec) -> RunRequest:
    """A request with the context of the recipe it is to run, once that is known to fit the model.

    Raises:
        UsageError: as for `read_recipe_file`; also a recipe for another context than the request asks for.
    """
    if request.recipe is None:
        return request
    recipe = read_recipe_file(Path(request.recipe), spec, context_tokens=request.context_tokens)
    return replace(request, context_tokens=recipe.context_tokens)


def read_recipe_file(path: Path, spec: ModelSpec, *, context_tokens: int | None = None) -> Recipe:
    """The recipe in a file, if it fits the model and, where one is given, the context of the run.

    Raises:
        UsageError: missing, not TOML, with unknown or wrong fields, or not of this model; with `path:line`.
    """
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError as error:
        raise UsageError(f"{path} is missing.") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not a text file in UTF-8; write it again.") from error
    return parse_recipe(text, spec, name=str(path), context_tokens=context_tokens)


def parse_recipe(text: str, spec: ModelSpec, *, name: str, context_tokens: int | None = None) -> Recipe:
    """The recipe in a text that stands in the file `name`.

    Raises:
        UsageError: as for `read_recipe_file`.
    """
    try:
        raw: dict[str, Any] = msgspec.toml.decode(text)
    except msgspec.DecodeError as error:
        place = _TOML_LINE.search(str(error))
        line = text.rstrip().count("\n") + 1 if place is None or place.group(1) is None else int(place.group(1))
        raise UsageError(f"{name}:{line}: not TOML: {_TOML_LINE.sub('', str(error))}.") from error
    version = raw.get("schema_version", SCHEMA_VERSION)
    if not isinstance(version, int) or not 1 <= version <= SCHEMA_VERSION:
        line = line_of(text, ("schema_version",))
        raise UsageError(f"{name}:{line}: this EdgePrune reads schema_version up to {SCHEMA_VERSION}, not {version!r}.")
    try:
        recipe = msgspec.convert(raw, type=Recipe)
    except msgspec.ValidationError as error:
        line = line_of(text, _entry_of(str(error)))
        message = re.sub(r" - at `\$\.?(.*)`", r" at \1", str(error)).replace("Object ", "the entry ")
        raise UsageError(f"{name}:{line}: {message}; keys are explained at the top of every recipe.toml.") from error
    try:
        edit_shapes(spec, recipe)
    except RecipeError as error:
        raise UsageError(f"{name}:{line_of(text, error.entry)}: {error}") from error
    if context_tokens is not None and recipe.context_tokens != context_tokens:
        line = line_of(text, ("context_tokens",))
        raise UsageError(
            f"{name}:{line}: context_tokens {recipe.context_tokens} is not the run's {context_tokens}; "
            f"change it back, or run again with --context {recipe.context_tokens}."
        )
    return recipe


def write_recipe_file(path: Path, recipe: Recipe) -> None:
    """Write a recipe with the comments that explain its keys, atomically."""
    atomic_write(path, recipe_toml(recipe).encode())


def recipe_toml(recipe: Recipe) -> str:
    """The text of `recipe.toml`; one site a line, so that a refusal and a diff point at one site."""
    lines = [
        f"schema_version = {recipe.schema_version}",
        f"model_hash = {_quoted(recipe.model_hash)}",
        f"technique = {_quoted(recipe.technique)}",
        f"context_tokens = {recipe.context_tokens}",
        f"seed = {recipe.seed}",
        f"drop_blocks = [{', '.join(map(str, recipe.drop_blocks))}]",
    ]
    for key, blocks in (("drop_attention", recipe.drop_attention), ("drop_mlp", recipe.drop_mlp)):
        if blocks:
            lines.append(f"{key} = [{', '.join(map(str, blocks))}]")
    repairs = [f"{{ block = {entry.block}, rank = {entry.rank} }}" for entry in recipe.repairs]
    lines += _array("repairs", repairs) if repairs else []
    if recipe.keep_tokens is not None:
        lines.append(f"keep_tokens = {{ kept_count = {recipe.keep_tokens.kept_count} }}")
    lines += _array("keep_channels", [_width(entry) for entry in recipe.keep_channels])
    groups = [_group_count(entry) for entry in recipe.keep_groups]
    lines += _array("keep_groups", groups) if groups else []
    lines.append(f"table_kernel = {_quoted(recipe.table_kernel)}")
    lines += _array("sites", [_site(edit) for edit in recipe.sites])
    if recipe.refit:
        lines.append("refit = true")
    if recipe.recovery is not None:
        lines.append(f"recovery = {_recovery(recipe.recovery)}")
    if recipe.rounding != "nearest":
        lines.append(f"rounding = {_quoted(recipe.rounding)}")
    if recipe.kv_bits != 32:
        lines.append(f"kv_bits = {recipe.kv_bits}")
    return HEADER + "\n" + "\n".join(lines) + "\n"


def _group_count(entry: KeepGroups) -> str:
    parts = [f"block = {entry.block}", f"kept_count = {entry.kept_count}"]
    if entry.criterion != "obs":
        parts.append(f"criterion = {_quoted(entry.criterion)}")
    if not entry.compensate:
        parts.append("compensate = false")
    return f"{{ {', '.join(parts)} }}"


def _width(entry: KeepChannels) -> str:
    criterion = "" if entry.criterion == "output" else f", criterion = {_quoted(entry.criterion)}"
    compensate = "" if entry.compensate else ", compensate = false"
    return f"{{ block = {entry.block}, kept_count = {entry.kept_count}{criterion}{compensate} }}"


def _site(edit: SiteEdit) -> str:
    rank = "" if edit.rank is None else f", rank = {edit.rank}"
    method = "" if edit.rank is None and edit.method == "lowrank" else f", method = {_quoted(edit.method)}"
    form = "" if edit.form == "factors" else f", form = {_quoted(edit.form)}"
    return f"{{ name = {_quoted(edit.name)}, kernel = {_quoted(edit.kernel)}{rank}{method}{form} }}"


def _recovery(recovery: Recovery) -> str:
    counts = f"steps = {recovery.steps}, block_steps = {recovery.block_steps}, adapt_steps = {recovery.adapt_steps}"
    others = f"precision = {_quoted(recovery.precision)}, freezing = {_quoted(recovery.freezing)}"
    return f"{{ mode = {_quoted(recovery.mode)}, {counts}, {others} }}"


def _array(name: str, entries: list[str]) -> list[str]:
    return [f"{name} = [", *(f"    {entry}," for entry in entries), "]"] if entries else [f"{name} = []"]


def _quoted(text: str) -> str:
    """A basic string; the escapes of JSON are TOML's too, which wants one more for the delete character."""
    return msgspec.json.encode(text).decode().replace("\x7f", "\\u007f")


def _entry_of(message: str) -> Entry:
    """The place a msgspec message names, such as `$.sites[3]`, with the unknown key if that is what is wrong."""
    place = _PLACE.search(message)
    parts = re.findall(r"\.(\w+)|\[(\d+)\]", place.group(1)) if place else []
    unknown = _UNKNOWN.search(message)
    return [*(key or int(index) for key, index in parts), *([unknown.group(1)] if unknown else [])]
