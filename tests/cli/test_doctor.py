"""`edgeprune doctor --families`: what is read, what builds its graph, and why not otherwise."""

from tests.cli.conftest import Cli


def test_families_are_listed_with_their_engine_and_the_reason(cli: Cli) -> None:
    answer = cli("doctor", "--families")
    lines = {line.split()[0]: line for line in answer.out.splitlines() if line.strip()}
    assert "supported  family llama, graph by mobius" in lines["llama"]
    assert (
        "supported  family gemma2, graph wired by EdgePrune: mobius 0.1.0 loses the sliding windows" in lines["gemma2"]
    )
    assert "refused    a mixture of experts" in lines["mixtral"]


def test_the_record_names_the_engine(cli: Cli) -> None:
    families = {entry["model_type"]: entry for entry in cli("doctor", "--families", "--json").json["families"]}
    assert families["opt"]["engine"] == "wired"
    assert "epsilon" in families["opt"]["reason"]
    assert families["mixtral"]["engine"] is None
