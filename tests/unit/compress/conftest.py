"""Tiny models with their statistics, loaded once: nothing under test may change them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from edgeprune.calibrate.capture import capture
from edgeprune.intake.load import LoadedModel, load_model
from tests.tiny import TINY_TEXT, write_tiny_gpt2, write_tiny_llama
from tests.unit.compress.recipes import Tiny


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _windows(loaded: LoadedModel) -> Tensor:
    """The text and as much noise, so that there are more tokens than channels."""
    ids = loaded.tokenizer.encode(TINY_TEXT.strip()).ids
    noise = torch.randint(0, 512, (1024 - len(ids),), generator=torch.Generator().manual_seed(0))
    return torch.cat([torch.tensor(ids), noise]).int().view(-1, 32)


def _prepared(folder: Path) -> Tiny:
    loaded = load_model(folder)
    return loaded, capture(loaded, _windows(loaded))


_WRITERS: dict[str, Callable[[Path], Path]] = {
    "llama": write_tiny_llama,
    "gpt2": write_tiny_gpt2,
    "qwen2": lambda folder: write_tiny_llama(folder, model_type="qwen2", dtype="bfloat16", tie_word_embeddings=False),
}


@pytest.fixture(scope="session")
def prepare(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Tiny]:
    cache: dict[str, Tiny] = {}

    def get(kind: str) -> Tiny:
        if kind not in cache:
            cache[kind] = _prepared(_WRITERS[kind](tmp_path_factory.mktemp(kind)))
        return cache[kind]

    return get


@pytest.fixture(params=["llama", "gpt2", "qwen2"])
def tiny(request: pytest.FixtureRequest, prepare: Callable[[str], Tiny]) -> Tiny:
    """A dense model of each kind: tied, tied with biases and layer norms, untied bfloat16 with some biases."""
    return prepare(request.param)


@pytest.fixture
def tiny_llama(prepare: Callable[[str], Tiny]) -> Tiny:
    return prepare("llama")
