"""Rows of the quality bench are made again where code they rest on has changed, and only there."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bench import quality_sources

A = '"""First."""\n\n\ndef f(x):\n    """Doc."""\n    from edgeprune.b import g\n\n    return g(x)  # why\n'
B = "from edgeprune import c\n\n\ndef g(x):\n    return c.h(x)\n"


@pytest.fixture
def hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Write modules of a package and hash what `edgeprune.a` rests on."""
    monkeypatch.setattr(quality_sources, "ROOT", tmp_path)

    def write(**modules: str) -> str:
        for name, text in ({"a": A, "b": B, "c": "h = abs\n", "errors": "E = 1\n"} | modules).items():
            path = tmp_path / "edgeprune" / f"{name}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        quality_sources._read.cache_clear()
        return quality_sources.source_hash("edgeprune.a")

    return write


def test_words_and_layout_may_change(hashed: Callable[..., str]) -> None:
    before = hashed()
    assert hashed(a=A.replace("First", "Second").replace("Doc", "What it does").replace("  # why", "\n")) == before
    assert hashed(d="unrelated = 1\n") == before


def test_code_it_imports_counts_wherever_the_import_stands(hashed: Callable[..., str]) -> None:
    before = hashed()
    assert hashed(a=A.replace("g(x)", "g(-x)")) != before
    assert hashed(b=B.replace("h(x)", "h(x) + 1")) != before
    assert hashed(c="h = round\n") != before


def test_errors_and_modules_left_out_do_not_count(hashed: Callable[..., str]) -> None:
    before = hashed(b=f"from edgeprune.errors import E\n{B}")
    assert hashed(b=f"from edgeprune.errors import E\n{B}", errors="E = 2\n") == before
    without = quality_sources.source_hash("edgeprune.a", without=("edgeprune.b",))
    hashed(b="g = abs\n", c="")
    assert quality_sources.source_hash("edgeprune.a", without=("edgeprune.b",)) == without
