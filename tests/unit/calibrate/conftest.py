"""Tiny random models, loaded once: nothing under test may change them."""

import pytest
import torch

from edgeprune.calibrate.capture import capture
from edgeprune.calibrate.statistics import CalibrationStats
from edgeprune.intake.load import LoadedModel, load_model
from tests.tiny import write_tiny_gpt2, write_tiny_llama


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_model(write_tiny_llama(tmp_path_factory.mktemp("llama") / "model"))


@pytest.fixture(scope="session")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_model(write_tiny_gpt2(tmp_path_factory.mktemp("gpt2") / "model"))


@pytest.fixture(scope="session")
def windows() -> torch.Tensor:
    return torch.randint(0, 512, (32, 32), generator=torch.Generator().manual_seed(0)).int()


@pytest.fixture(scope="session")
def stats(llama: LoadedModel, windows: torch.Tensor) -> CalibrationStats:
    return capture(llama, windows)
