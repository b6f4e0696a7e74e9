"""Files: whole or not at all, the same bytes for the same record, never outside their folder."""

from pathlib import Path

import numpy as np
import pytest

from edgeprune.artifacts import (
    atomic_folder,
    atomic_write,
    hash_parts,
    read_arrays,
    read_record,
    read_toml,
    resolve_inside,
    write_arrays,
    write_record,
)
from edgeprune.errors import ModelError, UsageError
from edgeprune.schema.recipe import KeepChannels, Recipe, SiteEdit

RECIPE = Recipe(
    model_hash="ab",
    context_tokens=128,
    drop_blocks=(1, 2),
    keep_channels=(KeepChannels(block=0, kept_count=32),),
    sites=(SiteEdit(name="blocks.0.q", rank=8), SiteEdit(name="blocks.0.k", kernel="int4_b32_a4")),
)


def test_a_recipe_survives_json(tmp_path: Path) -> None:
    write_record(tmp_path / "recipe.json", RECIPE)
    assert read_record(tmp_path / "recipe.json", Recipe) == RECIPE


def test_a_newer_schema_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text('schema_version = 9\nmodel_hash = "a"\ncontext_tokens = 1')
    with pytest.raises(UsageError, match="schema version 9"):
        read_toml(tmp_path / "recipe.toml", Recipe)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    with atomic_folder(target) as partial:
        atomic_write(partial / "kept", b"old")

    def fail() -> None:
        with atomic_folder(target) as partial:
            atomic_write(partial / "kept", b"new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (target / "kept").read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "", ".", "link/x"])
def test_paths_from_files_stay_inside(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(ModelError, match="leaves that folder"):
        resolve_inside(folder, name)


def test_arrays_are_the_same_bytes_every_time_and_never_pickled(tmp_path: Path) -> None:
    arrays = {"b": np.arange(3.0), "a": np.ones((2, 2))}
    write_arrays(tmp_path / "one.npz", arrays)
    write_arrays(tmp_path / "two.npz", dict(reversed(arrays.items())))
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    np.testing.assert_array_equal(read_arrays(tmp_path / "one.npz")["a"], arrays["a"])
    np.savez(tmp_path / "evil.npz", x=np.array([object()], dtype=object))
    with pytest.raises(ModelError):
        read_arrays(tmp_path / "evil.npz")


def test_every_part_counts_in_a_key() -> None:
    assert hash_parts("ab", "c") != hash_parts("a", "bc")
    assert hash_parts(RECIPE) == hash_parts(RECIPE)
    assert hash_parts({"x": 1, "y": 2}) == hash_parts({"y": 2, "x": 1})
