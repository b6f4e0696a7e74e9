"""`edgeprune compress MODEL --technique T --kept F`: one technique alone, written as a folder that reloads."""

import json
from pathlib import Path

import platformdirs
import pytest

import edgeprune
from tests.cli.conftest import Cli, Inputs


def arguments(inputs: Inputs, output: Path, technique: str, kept: str) -> list[object]:
    return [
        "compress", inputs.model, "--technique", technique, "--kept", kept, "--domain", inputs.domain,
        "--context", "128", "-o", output, "--json",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("technique", "kept", "tolerance"),
    [("lowrank", "0.8", 0.02), ("lorp", "0.75", 0.15), ("contextual", "0.85", 0.02), ("auto", "0.7", 0.02)],
)
def test_one_technique_alone(
    cli: Cli, inputs: Inputs, tmp_path: Path, technique: str, kept: str, tolerance: float
) -> None:
    output = tmp_path / "out"
    answer = cli(*arguments(inputs, output, technique, kept))
    assert answer.code == 0, answer.err
    fraction = answer.json["kept_fraction"]
    assert isinstance(fraction, float)
    assert fraction == pytest.approx(float(kept), abs=tolerance)
    loaded = edgeprune.load(output)
    stored = sum(parameter.numel() for parameter in loaded.model.parameters())
    dense = edgeprune.load(inputs.model)
    assert stored / sum(parameter.numel() for parameter in dense.model.parameters()) == pytest.approx(fraction)


@pytest.mark.slow
def test_what_asvd_measured_serves_every_size(
    cli: Cli, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(tmp_path / "cache" / name))
    first = cli(*arguments(inputs, tmp_path / "first", "asvd", "0.8"))
    assert first.code == 0, first.err
    (measured,) = (tmp_path / "cache" / "edgeprune" / "measured").iterdir()
    # Losses of a site that no threshold reaches: whoever reads them leaves it dense.
    kept = json.loads(measured.read_text())
    kept["losses"]["blocks.0.q"] = [1e9 + share for share in range(9)]
    measured.write_text(json.dumps(kept))
    second = cli(*arguments(inputs, tmp_path / "second", "asvd", "0.75"))
    assert second.code == 0, second.err
    assert "blocks.0.q" not in {edit["name"] for edit in second.json["recipe"]["sites"]}  # type: ignore[call-overload, index]
    assert list(measured.parent.iterdir()) == [measured]


@pytest.mark.slow
def test_an_unknown_technique_names_those_there_are(cli: Cli, inputs: Inputs, tmp_path: Path) -> None:
    answer = cli(*arguments(inputs, tmp_path / "out", "magic", "0.8"))
    assert answer.code == 2
    assert "lowrank" in answer.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--technique", "lowrank", "--kept", "0.8"), "contextual, flap and obs"),
        (("--technique", "wanda", "--kept", "0.8"), "contextual, flap and obs"),
        ((), "goes with --technique"),
    ],
)
def test_slicing_alone_is_for_techniques_that_slice(
    cli: Cli, inputs: Inputs, tmp_path: Path, flags: tuple[str, ...], says: str
) -> None:
    answer = cli("compress", inputs.model, *flags, "--no-compensate", "--domain", inputs.domain, "-o", tmp_path / "out")
    assert answer.code == 2
    assert says in answer.err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "known"), [("shared", {"factors", "shared"}), ("head_rows", {"pivot", "head_rows", "head_columns"})]
)
def test_ranks_are_stored_as_asked(cli: Cli, inputs: Inputs, tmp_path: Path, form: str, known: set[str]) -> None:
    answer = cli(*arguments(inputs, tmp_path / "out", "lowrank", "0.7"), "--form", form)
    assert answer.code == 0, answer.err
    forms = {edit.get("form", "factors") for edit in answer.json["recipe"]["sites"]}  # type: ignore[call-overload, index]
    assert forms <= known
    stored = sum(parameter.numel() for parameter in edgeprune.load(tmp_path / "out").model.parameters())
    dense = sum(parameter.numel() for parameter in edgeprune.load(inputs.model).model.parameters())
    assert stored / dense == pytest.approx(0.7, abs=0.02)


@pytest.mark.parametrize(
    ("flags", "says"),
    [(("--technique", "laser", "--kept", "0.8"), "for the technique lowrank"), ((), "goes with --technique")],
)
def test_the_form_is_lowranks(cli: Cli, inputs: Inputs, tmp_path: Path, flags: tuple[str, ...], says: str) -> None:
    answer = cli(
        "compress", inputs.model, *flags, "--form", "shared", "--domain", inputs.domain, "-o", tmp_path / "out"
    )
    assert answer.code == 2
    assert says in answer.err
    assert not (tmp_path / "out").exists()


def test_a_technique_needs_its_flags(cli: Cli, inputs: Inputs) -> None:
    answer = cli("compress", inputs.model, "--technique", "lowrank")
    assert answer.code == 2
    assert "--kept" in answer.err
