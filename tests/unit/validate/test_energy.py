"""Joules per token: what a meter counted over decoded tokens alone, of a decoder that burns a known amount a token."""

from pathlib import Path

import numpy as np
import pytest

from edgeprune.runtime.decode import Decoder
from edgeprune.runtime.energy import open_energy_meter
from edgeprune.runtime.session import CPU_PROVIDER, open_session
from edgeprune.schema.measurement import EnergyResult
from edgeprune.validate.energy import lowest_energy, measure_energy

TOKEN_UJ = 250


class Burning(Decoder):
    """Adds to the counter's file what a token costs; prompts cost nothing here."""

    counter: Path

    def step(self, token: int) -> np.ndarray:
        used = int(self.counter.read_text(encoding="ascii"))
        self.counter.write_text(str(used + TOKEN_UJ), encoding="ascii")
        return super().step(token)


@pytest.fixture
def decoder(shared_bundle: Path, tmp_path: Path) -> Burning:
    zone = tmp_path / "powercap" / "intel-rapl:0"
    zone.mkdir(parents=True)
    (zone / "name").write_text("package-0", encoding="ascii")
    (zone / "energy_uj").write_text("7000", encoding="ascii")
    session = open_session(shared_bundle / "model.onnx", thread_count=1)
    made = Burning(session, max_tokens=16, prefill_chunk_tokens=8)
    made.counter = zone / "energy_uj"
    made.prefill(np.arange(10) % made.vocab_size)
    return made


def test_a_token_costs_what_it_burns_however_long_the_stretch(decoder: Burning) -> None:
    for least_s in (0.0, 0.05):
        meter = open_energy_meter(CPU_PROVIDER, powercap=decoder.counter.parents[1])
        assert meter is not None
        found = measure_energy(decoder, meter, start=10, count=6, least_s=least_s)
        assert found is not None
        assert found.token_j == pytest.approx(TOKEN_UJ * 1e-6)
        assert found.meters == ("package-0",)
        assert found.token_count % 6 == 0


def test_a_counter_that_stands_still_or_fails_measures_nothing(decoder: Burning, tmp_path: Path) -> None:
    meter = open_energy_meter(CPU_PROVIDER, powercap=decoder.counter.parents[1])
    assert meter is not None
    decoder.counter = tmp_path / "elsewhere"
    decoder.counter.write_text("0", encoding="ascii")
    assert measure_energy(decoder, meter, start=10, count=6, least_s=0.0) is None


def test_the_lowest_process_counts_and_none_is_none() -> None:
    found = [EnergyResult(token_j=value, token_count=8, meters=("package-0",)) for value in (0.3, 0.2, 0.4)]
    assert lowest_energy([found[0], None, found[1], found[2]]) == found[1]
    assert lowest_energy([None, None]) is None
