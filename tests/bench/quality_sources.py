"""Which of our code a figure depends on, as one hash: what was made by other code is made again, and nothing else is.

Followed are the imports of a module through the whole package, also those inside functions, but not what only carries
records and errors about, shares work out to processes, reads the model's files, or knows families other than the lab
model's. A file counts as what its code does: comments, docstrings and layout may change.
"""

import ast
import functools
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from edgeprune.artifacts import hash_parts

__all__ = ["is_kept", "source_hash"]

ROOT = Path(__file__).parents[2]
PACKAGES = ("edgeprune", "tests")
FRAME = (
    "edgeprune.artifacts", "edgeprune.errors", "edgeprune.schema", "edgeprune.units",
    "edgeprune.runtime.executor", "edgeprune.intake.families", "edgeprune.intake.config", "edgeprune.intake.crosscheck",
    "edgeprune.intake.adapters.registry", "edgeprune.intake.headers", "edgeprune.intake.load", "edgeprune.intake.spec",
    "tests.bench.quality_lab", "tests.bench.quality_sources",
)  # fmt: skip
"""Modules and packages that decide no figure."""


def is_kept() -> bool:
    """Whether what was made by other code is taken all the same (EDGEPRUNE_BENCH_KEEP=1)."""
    return os.environ.get("EDGEPRUNE_BENCH_KEEP") == "1"


def source_hash(*modules: str, without: Collection[str] = ()) -> str:
    """sha256 of modules and all that they import of ours.

    Args:
        modules: dotted names.
        without: modules that what is hashed never runs; nor are their imports followed.
    """
    found: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module in found or module in without or module == "edgeprune" or _is_frame(module):
            continue
        path = _path(module)
        assert path is not None, f"no module {module}"
        found[module], imported = _read(path)
        waiting += imported
    return hash_parts(sorted(found.items()))


def _is_frame(module: str) -> bool:
    return any(module == frame or module.startswith(f"{frame}.") for frame in FRAME)


def _path(module: str) -> Path | None:
    place = ROOT.joinpath(*module.split("."))
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)


@functools.cache
def _read(path: Path) -> tuple[str, tuple[str, ...]]:
    """sha256 of what a file does, and the modules of ours that it imports."""
    tree = ast.parse(path.read_bytes())
    imported = tuple(dict.fromkeys(name for node in ast.walk(tree) for name in _imported(node)))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            node.body = [each for each in node.body if not _is_text(each)]
    return hash_parts(ast.dump(tree)), imported


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in PACKAGES:
        yield node.module
        for alias in node.names:
            if _path(f"{node.module}.{alias.name}") is not None:
                yield f"{node.module}.{alias.name}"
    elif isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name.split(".")[0] in PACKAGES)


def _is_text(node: ast.stmt) -> bool:
    """A docstring, or one under a field."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
