from pathlib import Path

import pytest

from tests.device.decoder_graph import TinyDecoder, write_bundle


@pytest.fixture(scope="session")
def tiny() -> TinyDecoder:
    return TinyDecoder()


@pytest.fixture(scope="session")
def shared_bundle(tiny: TinyDecoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound bundle; tests that change one make their own."""
    return write_bundle(tmp_path_factory.mktemp("bundles") / "recipe", tiny)


@pytest.fixture
def bundle(tiny: TinyDecoder, tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle", tiny, question_count=4)
