"""`recipe.toml`: what is written is read back, and every mistake an editor can make is named with its line."""

from pathlib import Path

import msgspec
import pytest

from edgeprune.errors import UsageError
from edgeprune.pipeline.recipe_file import parse_recipe, read_recipe_file, recipe_toml, write_recipe_file
from edgeprune.pipeline.toml_lines import line_of
from edgeprune.schema.recipe import KeepChannels, KeepGroups, KeepTokens, Recipe, SiteEdit
from tests.unit.search.builders import make_spec

SPEC = make_spec(blocks=3)
RECIPE = Recipe(
    model_hash=SPEC.model_hash,
    context_tokens=128,
    drop_blocks=(2,),
    keep_tokens=KeepTokens(kept_count=300),
    keep_channels=(KeepChannels(block=0, kept_count=128), KeepChannels(block=1, kept_count=96)),
    table_kernel="int8_b32_a4",
    sites=(
        SiteEdit(name="blocks.0.q", kernel="int4_b32_a4", rank=24),
        SiteEdit(name="blocks.0.up", kernel="fp16", rank=16, method="laser", form="pivot"),
        SiteEdit(name="blocks.1.down", kernel="int4_b128_a4"),
        SiteEdit(name="blocks.1.o", rank=8),
    ),
)
WRITTEN = recipe_toml(RECIPE)


def line_with(text: str, piece: str) -> int:
    (line,) = [number for number, line in enumerate(text.splitlines(), 1) if piece in line and line[:1] != "#"]
    return line


@pytest.mark.parametrize(
    "recipe",
    [
        RECIPE,
        Recipe(model_hash=SPEC.model_hash, context_tokens=72, technique='a "b" \\ \x7f é\n'),
        Recipe(model_hash=SPEC.model_hash, context_tokens=72, drop_attention=(0, 2), drop_mlp=(1,), refit=True),
        Recipe(
            model_hash=SPEC.model_hash,
            context_tokens=72,
            keep_groups=(
                KeepGroups(block=0, kept_count=1, criterion="flap"),
                KeepGroups(block=1, kept_count=1, criterion="wanda", compensate=False),
            ),
        ),
        Recipe(model_hash=SPEC.model_hash, context_tokens=72, kv_bits=8, rounding="gptq"),
        Recipe(
            model_hash=SPEC.model_hash,
            context_tokens=72,
            keep_channels=(
                KeepChannels(block=0, kept_count=128, criterion="obs"),
                KeepChannels(block=1, kept_count=96, criterion="contextual", compensate=False),
                KeepChannels(block=2, kept_count=96, criterion="flap"),
            ),
        ),
    ],
)
def test_what_is_written_is_read_back_with_its_comments(recipe: Recipe, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    write_recipe_file(path, recipe)
    assert read_recipe_file(path, SPEC) == recipe
    text = path.read_text()
    assert text.startswith("# ")
    for key in Recipe.__struct_fields__ + SiteEdit.__struct_fields__ + KeepChannels.__struct_fields__:
        assert key in text.split("\n\n")[0] or key in ("schema_version", "seed"), f"{key} is not explained"


def test_comments_and_order_are_the_editors_own(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(
        f'# mine\nsites = []   # none\ncontext_tokens = 128\nmodel_hash = "{SPEC.model_hash}"\n'
        '[[keep_channels]]\nblock = 1 # "quoted" [1]\nkept_count = 96\n[keep_tokens]\nkept_count = 300\n'
    )
    recipe = read_recipe_file(path, SPEC)
    assert recipe.keep_channels == (KeepChannels(block=1, kept_count=96),)
    assert recipe.keep_tokens == KeepTokens(kept_count=300)


@pytest.mark.parametrize(
    ("written", "edited", "says"),
    [
        ("rank = 24", "rank = 64", "rank 64 is not below the full rank 64"),
        ("rank = 24", "rank = 0", "rank 0 must be at least 1"),
        ("rank = 24", 'rank = "24"', "Expected `int | null`, got `str` at sites[0].rank"),
        ("rank = 24", "rnak = 24", "unknown field `rnak` at sites[0]"),
        ('"pivot"', '"rows"', "Invalid enum value 'rows' at sites[1].form"),
        ("rank = 16", "rank = 64", "rank 64 is not below the full rank 64"),
        (', rank = 16, method = "laser"', "", "form pivot stores a rank; give one, or take form out"),
        ('"laser"', '"svd"', "Invalid enum value 'svd' at sites[1].method"),
        ("blocks.1.down", "blocks.1.dwon", "no such site; nearest are blocks.1.down"),
        ("blocks.1.down", "blocks.2.down", "the recipe drops the part of the block"),
        ("blocks.1.o", "blocks.1.down", "is listed twice"),
        ('"int4_b128_a4"', '"int5"', "Unknown kernel 'int5'"),
        ('name = "blocks.1.o", ', "", "missing required field `name` at sites[3]"),
        ("drop_blocks = [2]", "drop_blocks = [9]", "no block 9; it has blocks 0..2"),
        ("drop_blocks = [2]", "drop_blocks = [2, 2]", "block 2 is listed twice"),
        ("drop_blocks = [2]", "drop_blocks = [0, 1, 2]", "removes every block"),
        ("drop_blocks = [2]", "drop_blocks = 2", "Expected `array`, got `int` at drop_blocks"),
        ("block = 1, kept_count = 96", "block = 1, kept_count = 177", "kept_count 177 must lie in 1..176"),
        ("block = 1, kept_count = 96", "block = 2, kept_count = 96", "the recipe drops this block's MLP"),
        ("block = 1, kept_count = 96", "block = 0, kept_count = 96", "is listed twice"),
        ("kept_count = 96 }", 'kept_count = 96, criterion = "mean" }', "Invalid enum value 'mean' at keep_channels[1]"),
        ("block = 1, kept_count = 96", "block = 7, kept_count = 96", "no such block; it has blocks 0..2"),
        ("kept_count = 300", "kept_count = 513", "must lie in 1..512"),
        ('table_kernel = "int8_b32_a4"', 'table_kernel = "int8"', "Unknown kernel 'int8'"),
        ("seed = 0", "sede = 0", "unknown field `sede`"),
        ("seed = 0", "seed = ", "not TOML"),
        ("schema_version = 1", "schema_version = 2", "schema_version up to 1, not 2"),
        ('model_hash = "0000', 'model_hash = "1111', "made for a model with hash 1111"),
        ("context_tokens = 128", "context_tokens = 96", "is not the run's 128"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line(written: str, edited: str, says: str, tmp_path: Path) -> None:
    body = WRITTEN.split("\n\n")[1]
    assert body.count(written) == 1
    path = tmp_path / "recipe.toml"
    path.write_text(WRITTEN.replace(body, body.replace(written, edited)))
    changed = [
        number
        for number, (a, b) in enumerate(zip(WRITTEN.splitlines(), path.read_text().splitlines(), strict=True), 1)
        if a != b
    ]
    with pytest.raises(UsageError) as caught:
        read_recipe_file(path, SPEC, context_tokens=128)
    assert str(caught.value).startswith(f"{path}:{changed[0]}: ")
    assert says in str(caught.value)


def test_arrays_of_tables_have_lines_too() -> None:
    head = f'model_hash = "{SPEC.model_hash}"\ncontext_tokens = 128\n'
    text = head + '\n[[sites]]\nname = "blocks.0.q"\n\n[[sites]]\n# second\nname = "blocks.1.q"\nrank = 900\n'
    with pytest.raises(UsageError, match=r"^r:10: recipe site blocks\.1\.q: rank 900"):
        parse_recipe(text, SPEC, name="r")
    text = head + "\n[[sites]]\nrank = 4\n"
    with pytest.raises(UsageError, match=r"^r:4: .*missing required field `name`"):
        parse_recipe(text, SPEC, name="r")


def test_missing_and_unreadable_files_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"recipe\.toml is missing"):
        read_recipe_file(tmp_path / "recipe.toml", SPEC)
    (tmp_path / "recipe.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="UTF-8"):
        read_recipe_file(tmp_path / "recipe.toml", SPEC)


DOCUMENT = '''\
# a = 1
a = "x # [y]" # c
"b c" = [1, [2,
  3], { d = 4 }]
e.f = """
g = 1 \\"""
"""
[h]
i = {j = 'k, "l"', m = [5]}
[[n]]
o = 1
[[n.p]]
q = 2
[[n.p]]
q = 3
[[n]]
o = 4
[n.r]
s = \'\'\'t = 1\'\'\'
'''


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        (("a",), 2),
        (("b c",), 3),
        (("b c", 1, 0), 3),
        (("b c", 1, 1), 4),
        (("b c", 2, "d"), 4),
        (("e", "f"), 5),
        (("g",), 1),
        (("h",), 8),
        (("h", "i", "m", 0), 9),
        (("n", 0), 10),
        (("n", 0, "o"), 11),
        (("n", 0, "p", 0, "q"), 13),
        (("n", 0, "p", 1, "q"), 15),
        (("n", 1, "o"), 17),
        (("n", 1, "r", "s"), 19),
        (("n", 1, "r", "absent"), 18),
        (("n", 7), 10),
        ((), 1),
    ],
)
def test_every_entry_of_a_document_has_its_line(entry: tuple[str | int, ...], line: int) -> None:
    assert msgspec.toml.decode(DOCUMENT)["n"][1]["o"] == 4
    assert line_of(DOCUMENT, entry) == line
