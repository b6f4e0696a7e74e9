"""A tiny model, cut, and text to train it on; written once, and nothing under test may change it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from edgeprune.calibrate.capture import capture
from edgeprune.calibrate.corpus import write_corpus
from edgeprune.calibrate.split import Split
from edgeprune.compress.recover import data
from edgeprune.compress.recover.data import RecoveryText, read_recovery_text
from edgeprune.intake.load import load_model
from tests.tiny import TINY_TEXT, write_tiny_gpt2, write_tiny_llama
from tests.unit.compress.recover.cases import WINDOW, Case


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches that suit a tiny model."""
    torch.set_num_threads(1)
    monkeypatch.setattr(data, "BATCH_TOKENS", 8 * WINDOW)


def documents(seed: int, count: int) -> list[str]:
    """Sentences of the tiny text in random orders: what one document teaches helps with the next."""
    sentences = [part.strip() for part in TINY_TEXT.replace("\n", " ").split(".") if part.strip()]
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(sentences), generator=generator)[:4].tolist() for _ in range(count)]
    return [". ".join(sentences[index] for index in order) + "." for order in orders]


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of texts as a calibration leaves it."""
    folder = tmp_path_factory.mktemp("texts")
    write_corpus(folder, "domain", Split(calibrate=documents(1, 80), select=documents(2, 12), report=documents(3, 2)))
    write_corpus(folder, "general", Split(calibrate=documents(4, 30), select=documents(5, 2), report=documents(6, 2)))
    return folder


@pytest.fixture(scope="session")
def case(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Case]:
    cache: dict[str, Case] = {}

    def get(kind: str) -> Case:
        if kind not in cache:
            folder = tmp_path_factory.mktemp(kind)
            loaded = load_model(
                write_tiny_gpt2(folder) if kind == "gpt2" else write_tiny_llama(folder, model_type=kind)
            )
            tokens = torch.randint(0, 512, (32, WINDOW), generator=torch.Generator().manual_seed(0)).int()
            cache[kind] = loaded, capture(loaded, tokens, gradient_tokens=0)
        return cache[kind]

    return get


@pytest.fixture
def llama(case: Callable[[str], Case]) -> Case:
    return case("llama")


@pytest.fixture
def text(llama: Case, texts: Path) -> RecoveryText:
    return read_recovery_text(texts, llama[0], context_tokens=WINDOW)
