"""Every kind of bad input: one clear sentence on stderr, the documented exit code, nothing on stdout, nothing lost."""

import json
import re
import shutil
import struct
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, Inputs
from tests.tiny import write_tiny_llama


def refused(answer: object, code: int, *words: str) -> None:
    assert answer.code == code, answer.err  # type: ignore[attr-defined]
    last = answer.err.strip().splitlines()[-1]  # type: ignore[attr-defined]
    assert last.startswith("edgeprune: ")
    for word in words:
        assert word in last
    assert "Traceback" not in answer.err  # type: ignore[attr-defined]
    assert answer.out == ""  # type: ignore[attr-defined]


# -- exit 2: flags, sizes and units --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--memory", "300"], ["--memory", "no unit", "1.5GB"]),
        (["--memory", "lots"], ["--memory", "not a number"]),
        (["--memory", "3XB"], ["unknown unit", "XB"]),
        (["--memory", "0%"], ["0%"]),
        (["--disk", "-4MB"], ["--disk"]),
        (["--latency", "5"], ["--latency", "no unit", "12ms"]),
        (["--latency", "5MB"], ["--latency", "unknown unit"]),
        (["--max-loss", "much"], ["--max-loss", "0.02"]),
        (["--max-general-loss", "-1"], ["--max-general-loss", "zero or more"]),
        (["--device-memory", "2"], ["--device-memory", "no unit"]),
        (["--device-memory", "2GB"], ["--device-memory", "--ep cuda"]),
        (["--first-token", "5MB"], ["--first-token", "unknown unit"]),
        (["--min-accuracy", "1.5"], ["--min-accuracy", "share of the questions"]),
        (["--min-accuracy", "70%"], ["--min-accuracy", "--questions"]),
        (["--objective", "speed"], ["--objective", "latency"]),
        (["--objective", "memory"], ["--objective memory", "--max-loss"]),
        (["--workload", "512"], ["--workload", "512+128"]),
        (["--workload", "512+0"], ["--workload", "512+128"]),
        (["--workload", "5+9"], ["too short"]),
        (["--workload", "90+90", "--context", "180"], ["--workload", "--context out"]),
        (["--context", "0"], ["--context"]),
        (["--context", "8"], ["too short"]),
        (["--context", "100000"], ["longer than the model's"]),
        (["--threads", "0"], ["--threads"]),
        (["--ep", "tpu"], ["--ep"]),
        (["--device", "no-such-board"], ["no-such-board", "raspberry-pi-5"]),
        (["--no-such-flag"], ["--no-such-flag"]),
    ],
)
def test_flags_sizes_and_units(cli: Cli, inputs: Inputs, tmp_path: Path, flags: list[str], words: list[str]) -> None:
    answer = cli("run", inputs.model, "--domain", inputs.domain, "-o", tmp_path / "out", *flags)
    refused(answer, 2, *words)


def test_no_command_prints_help(cli: Cli) -> None:
    answer = cli()
    assert answer.code == 2
    assert "Usage: edgeprune" in answer.err
    assert answer.out == ""


def test_unknown_command(cli: Cli) -> None:
    refused(cli("squeeze"), 2, "squeeze")


# -- exit 2: texts ---------------------------------------------------------------------------------------------------


def text_file(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / "domain.txt"
    if kind == "empty":
        path.write_text("")
    elif kind == "binary":
        path.write_bytes(b"\x00\x01\x02" * 500)
    elif kind == "latin1":
        path.write_bytes("déjà vu ".encode("latin-1") * 500)
    elif kind == "little":
        path.write_text("Too little text.")
    return path


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("missing", "is missing"),
        ("empty", "empty"),
        ("binary", "binary"),
        ("latin1", "UTF-8"),
        ("little", "tokens"),
    ],
)
@pytest.mark.parametrize("flag", ["--domain", "--eval"])
def test_domain_and_evaluation_text(cli: Cli, inputs: Inputs, tmp_path: Path, flag: str, kind: str, word: str) -> None:
    path = text_file(tmp_path, kind)
    texts = ["--domain", path] if flag == "--domain" else ["--domain", inputs.domain, "--eval", path]
    answer = cli("run", inputs.model, *texts, "--quick", "--device", "raspberry-pi-5", "-o", tmp_path / "out")
    refused(answer, 2, word)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "empty"),
        (b"\x00\x01", "binary"),
        (b"not json\n", "line 1"),
        (b'{"prompt": "a", "choices": ["x"], "answer": 0}\n', "choices"),
        (b'{"prompt": "a", "choices": ["x", "y"], "answer": 7}\n', "answer"),
    ],
)
def test_questions(cli: Cli, inputs: Inputs, tmp_path: Path, content: bytes, word: str) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_bytes(content)
    answer = cli(
        "run", inputs.model, "--domain", inputs.domain, "--questions", path, "--device", "raspberry-pi-5",
        "-o", tmp_path / "out",
    )  # fmt: skip
    refused(answer, 2, word)


def test_a_model_of_the_users_needs_domain_text(cli: Cli, inputs: Inputs, tmp_path: Path) -> None:
    refused(cli("run", inputs.model, "-o", tmp_path / "out"), 2, "--domain")


# -- exit 2: folders and recipes -------------------------------------------------------------------------------------


def test_output_folder_that_is_not_ours_is_left_alone(cli: Cli, inputs: Inputs, tmp_path: Path) -> None:
    kept = tmp_path / "letters.txt"
    kept.write_text("mine")
    refused(cli("run", inputs.model, "--domain", inputs.domain, "-o", tmp_path), 2, "not empty", "-o")
    assert kept.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [kept]


def test_output_folder_that_cannot_be_written(cli: Cli, inputs: Inputs) -> None:
    refused(cli("run", inputs.model, "--domain", inputs.domain, "-o", "/proc/edgeprune"), 2, "/proc/edgeprune", "-o")


def test_output_that_is_a_file(cli: Cli, inputs: Inputs, tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_text("")
    refused(cli("run", inputs.model, "--domain", inputs.domain, "-o", target), 2, "is a file")


@pytest.mark.parametrize("verb", ["search", "compress", "export", "report"])
def test_a_folder_that_is_no_run(cli: Cli, tmp_path: Path, verb: str) -> None:
    refused(cli(verb, tmp_path), 2, "manifest.json")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("drop_blocks = [77]", "77"),
        ("drop_blocks = [0, 1, 2]", "every block"),
        ('table_kernel = "int3_b32_a4"', "int3_b32_a4"),
        ("colour = 3", "colour"),
        ("drop_blocks = [", "not TOML"),
    ],
)
def test_an_edited_recipe_that_does_not_fit(cli: Cli, own_run: Path, line: str, word: str) -> None:
    recipe = own_run / "recipe.toml"
    key = line.split(" =")[0]
    kept = re.sub(rf"(?m)^{key} = (\[\s*[0-9,\s]*\]|.*)\n", "", recipe.read_text())
    recipe.write_text(f"{line}\n{kept}")
    before = recipe.read_text()
    refused(cli("compress", own_run), 2, word)
    assert recipe.read_text() == before


# -- exit 3: models --------------------------------------------------------------------------------------------------


def damaged(tmp_path: Path, how: str) -> Path:
    folder = write_tiny_llama(tmp_path / "model")
    config = folder / "config.json"
    weights = folder / "model.safetensors"
    settings = json.loads(config.read_text())
    if how == "missing":
        shutil.rmtree(folder)
        folder.mkdir()
    elif how == "malformed":
        config.write_text("{")
    elif how == "billion layers":
        config.write_text(json.dumps(settings | {"num_hidden_layers": 10**9}))
    elif how == "huge header":
        weights.write_bytes(struct.pack("<Q", 2**40) + weights.read_bytes()[8:])
    elif how == "truncated":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif how == "pickle":
        weights.rename(folder / "pytorch_model.bin")
    elif how == "nan":
        data = bytearray(weights.read_bytes())
        data[-4:] = struct.pack("<f", float("nan"))
        weights.write_bytes(bytes(data))
    elif how in ("bert", "t5", "mixtral", "frobnicator"):
        names = {"bert": "BertModel", "t5": "T5ForConditionalGeneration", "mixtral": "MixtralForCausalLM"}
        config.write_text(json.dumps(settings | {"model_type": how, "architectures": [names.get(how, "Frob")]}))
    return folder


@pytest.mark.parametrize(
    ("how", "word"),
    [
        ("missing", "config.json"),
        ("malformed", "config.json"),
        ("billion layers", "num_hidden_layers"),
        ("huge header", "header"),
        ("truncated", "truncated"),
        ("pickle", "safetensors"),
        ("bert", "encoder"),
        ("t5", "encoder"),
        ("mixtral", "experts"),
        ("frobnicator", "frobnicator"),
    ],
)
@pytest.mark.parametrize("verb", ["plan", "run"])
def test_models_that_cannot_be_loaded(cli: Cli, inputs: Inputs, tmp_path: Path, verb: str, how: str, word: str) -> None:
    folder = damaged(tmp_path, how)
    flags = ["--domain", inputs.domain, "-o", tmp_path / "out"] if verb == "run" else []
    refused(cli(verb, folder, "--device", "raspberry-pi-5", *flags), 3, word)


def test_weights_that_are_not_numbers(cli: Cli, inputs: Inputs, tmp_path: Path) -> None:
    folder = damaged(tmp_path, "nan")
    answer = cli("run", folder, "--domain", inputs.domain, "--device", "raspberry-pi-5", "-o", tmp_path / "out")
    refused(answer, 3, "NaN")


def test_a_hub_that_cannot_be_reached(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    refused(cli("plan", "nobody/no-such-model", "--device", "raspberry-pi-5"), 3, "nobody/no-such-model")


# -- exit 3: bundles -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "word"),
    [("flipped", "sha256"), ("missing", "missing"), ("newer", "schema version"), ("malformed", "edgeprune.json")],
)
def test_bundles_that_are_not_what_they_say(cli: Cli, own_run: Path, how: str, word: str) -> None:
    bundle = own_run / "bundle"
    data = bundle / "model.onnx.data"
    manifest = bundle / "edgeprune.json"
    if how == "flipped":
        content = bytearray(data.read_bytes())
        content[len(content) // 2] ^= 1
        data.write_bytes(bytes(content))
    elif how == "missing":
        data.unlink()
    elif how == "newer":
        manifest.write_text(manifest.read_text().replace('"schema_version": 1', '"schema_version": 99', 1))
    else:
        manifest.write_text("{}")
    refused(cli("validate", bundle), 3, word)


def test_a_bundle_that_is_not_there(cli: Cli, tmp_path: Path) -> None:
    refused(cli("validate", tmp_path / "nothing"), 3, "nothing")
