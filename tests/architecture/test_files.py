"""House rules on files: length, `__all__`, one writer a stream, no banned names."""

import ast
from pathlib import Path

import pytest

import edgeprune

PACKAGE = Path(edgeprune.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
CEILING = 400
BANNED_NAMES = {"utils", "common", "helpers", "core", "manager"}


def named(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_length_name_and_docstring(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= CEILING
    assert path.stem not in BANNED_NAMES
    assert ast.get_docstring(ast.parse(text)), "a module says what it is for"


@pytest.mark.parametrize("path", [path for path in MODULES if not path.stem.startswith("__")], ids=named)
def test_public_names_are_listed(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    listed: list[str] | None = None
    defined = set()
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(getattr(target, "id", "") == "__all__" for target in node.targets):
            listed = ast.literal_eval(node.value)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            defined.add(node.name)
    assert listed is not None, "no __all__"
    names = {name.id for node in tree.body for name in ast.walk(node) if isinstance(name, ast.Name)} | defined
    assert set(listed) <= names | {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


STREAM_WRITERS = {
    "cli/output.py": "the result",
    "cli/diagnostics.py": "everything else",
    "runtime/isolate.py": "a measuring child answers its parent through a pipe, which is its stdout",
    "demo/baselines.py": "a script that prints its table",
}


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_only_the_writers_write_streams(path: Path) -> None:
    if named(path) in STREAM_WRITERS:
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        assert not (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print")
        if isinstance(node, ast.Attribute) and node.attr == "write" and isinstance(node.value, ast.Attribute):
            assert node.value.attr not in ("stdout", "stderr")


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_no_pickle_and_no_shell(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "import pickle" not in text
    assert "shell=True" not in text
    assert "torch.load(" not in text
    assert "allow_pickle=True" not in text
    assert "trust_remote_code=True" not in text
