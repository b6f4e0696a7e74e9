"""`edgeprune compress MODEL --technique lorp --repair RANK`: operators in the place of dropped blocks."""

from pathlib import Path

import pytest

import edgeprune
from tests.cli.conftest import Answer, Cli, Inputs


def compress(cli: Cli, inputs: Inputs, output: Path, *flags: str) -> Answer:
    return cli("compress", inputs.model, *flags, "--domain", inputs.domain, "--context", "128", "-o", output, "--json")


@pytest.mark.slow
def test_what_stands_in_for_the_blocks_is_saved_and_counted(cli: Cli, inputs: Inputs, tmp_path: Path) -> None:
    answer = compress(cli, inputs, tmp_path / "out", "--technique", "lorp", "--kept", "0.75", "--repair", "4")
    assert answer.code == 0, answer.err
    recipe = answer.json["recipe"]
    assert recipe["drop_blocks"]
    assert {entry["rank"] for entry in recipe["repairs"]} == {4}
    assert recipe["refit"], "what the operators leave over is for the projections after them"
    loaded = edgeprune.load(tmp_path / "out")
    assert [block.repair_rank for block in loaded.spec.blocks].count(4) == len(recipe["repairs"])


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--technique", "lowrank", "--kept", "0.8", "--repair", "8"), "lorp, shortgpt, streamline and sleb"),
        (("--repair", "8"), "goes with --technique"),
        (("--technique", "lorp", "--kept", "0.8", "--repair", "0"), "--repair 0 must lie in 1.."),
        (("--technique", "lorp", "--kept", "0.8", "--repair", "100000"), "--repair 100000 must lie in 1.."),
    ],
)
def test_repairs_that_cannot_be_are_refused(
    cli: Cli, inputs: Inputs, tmp_path: Path, flags: tuple[str, ...], says: str
) -> None:
    answer = compress(cli, inputs, tmp_path / "out", *flags)
    assert answer.code == 2
    assert says in answer.err
    assert not (tmp_path / "out").exists()
