"""What compression refuses before any work: one sentence, exit 2 or 3, the model and the output as they were."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from edgeprune.artifacts import hash_file
from edgeprune.intake.spec import read_spec
from tests.cli.conftest import Answer, Cli, Inputs
from tests.tiny import write_tiny_llama


def refused(answer: Answer, code: int, *words: str) -> None:
    assert answer.code == code, answer.err
    last = answer.err.strip().splitlines()[-1]
    assert last.startswith("edgeprune: ")
    for word in words:
        assert word in last
    assert "Traceback" not in answer.err
    assert answer.out == ""


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hash_file(path) for path in sorted(folder.iterdir())}


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ('sites = [{ name = "blocks.0.q", rank = 64 }]', ["blocks.0.q", "rank 64", "full rank"]),
        ('sites = [{ name = "blocks.0.k", rank = 33 }]', ["blocks.0.k", "rank 33", "full rank 32"]),
        ("drop_blocks = [0, 1, 2]", ["drop_blocks", "every block"]),
        ("keep_groups = [{ block = 1, kept_count = 3 }]", ["kept_count 3", "1..2"]),
        ('sites = [{ name = "lm_head", rank = 8 }]', ["lm_head", "one matrix", "keep_tokens", "table_kernel"]),
        ('sites = [{ name = "embedding", kernel = "int8_b32_a4" }]', ["embedding", "one matrix", "table_kernel"]),
    ],
)
def test_recipes_that_cannot_be_applied(
    cli: Cli, inputs: Inputs, tmp_path: Path, entries: str, words: list[str]
) -> None:
    recipe, output = tmp_path / "mine.toml", tmp_path / "out"
    recipe.write_text(f'model_hash = "{read_spec(inputs.model).model_hash}"\ncontext_tokens = 128\n{entries}\n')
    before = contents(inputs.model)
    refused(
        cli("run", inputs.model, "--domain", inputs.domain, "--context", "128", "--recipe", recipe, "-o", output),
        2,
        "mine.toml:3",
        *words,
    )
    assert contents(inputs.model) == before
    assert not output.exists() or not any(output.iterdir())


@pytest.mark.parametrize("technique", ["lowrank", "lorp", "contextual", "auto"])
def test_text_too_short_for_the_statistics(cli: Cli, inputs: Inputs, tmp_path: Path, technique: str) -> None:
    text, output = tmp_path / "short.jsonl", tmp_path / "out"
    text.write_text("\n".join(json.dumps({"text": f"Case {number}, a doctor."}) for number in range(5)))
    before = contents(inputs.model)
    refused(
        cli("compress", inputs.model, "--technique", technique, "--kept", "0.8", "--domain", text, "-o", output),
        2,
        "tokens",
        "are needed",
        "give more text",
    )
    assert contents(inputs.model) == before
    assert not output.exists()


@pytest.mark.parametrize("verb", ["plan", "compress"])
def test_heads_that_do_not_divide_into_groups(cli: Cli, inputs: Inputs, tmp_path: Path, verb: str) -> None:
    folder, output = write_tiny_llama(tmp_path / "model"), tmp_path / "out"
    config = json.loads((folder / "config.json").read_text())
    config["num_key_value_heads"] = 3
    (folder / "config.json").write_text(json.dumps(config))
    before = contents(folder)
    more = (
        ["--context", "64"]
        if verb == "plan"
        else ["--technique", "flap", "--kept", "0.8", "--domain", inputs.domain, "-o", output]
    )
    refused(cli(verb, folder, *more), 3, "num_attention_heads 4", "num_key_value_heads 3")
    assert contents(folder) == before
    assert not output.exists()


def test_a_tied_table_that_was_edited_on_one_side(cli: Cli, inputs: Inputs, tmp_path: Path) -> None:
    folder, output = write_tiny_llama(tmp_path / "model"), tmp_path / "out"
    tensors = load_file(folder / "model.safetensors")
    assert json.loads((folder / "config.json").read_text())["tie_word_embeddings"] is True
    head = np.array(tensors["model.embed_tokens.weight"])
    head[3] = 0.0
    save_file(tensors | {"lm_head.weight": head}, folder / "model.safetensors", metadata={"format": "pt"})
    before = contents(folder)
    answer = cli("compress", folder, "--technique", "lowrank", "--kept", "0.8", "--domain", inputs.domain, "-o", output)
    refused(answer, 3, "tie_word_embeddings")
    assert contents(folder) == before
    assert not output.exists()
