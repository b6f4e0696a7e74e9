"""A finished run on a tiny random model, made once a session, and a way to call the command line."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgeprune.cli.main import run_app
from tests.tiny import TINY_TEXT, write_tiny_llama


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, object]:
        loaded = json.loads(self.out)
        assert isinstance(loaded, dict)
        return loaded


Cli = Callable[..., Answer]


@pytest.fixture
def cli(capfdbinary: pytest.CaptureFixture[bytes]) -> Cli:
    """Call the command line in this process; streams are captured at the file descriptors."""

    def call(*arguments: object) -> Answer:
        capfdbinary.readouterr()
        code = run_app([str(argument) for argument in arguments])
        out, err = capfdbinary.readouterr()
        return Answer(code=code, out=out.decode(), err=err.decode())

    return call


def write_domain(path: Path) -> Path:
    """About 12,000 tokens of distinct documents made from the tiny tokenizer's own text."""
    words = TINY_TEXT.split()
    with path.open("w", encoding="utf-8") as stream:
        for number in range(160):
            start = (number * 37) % (len(words) - 60)
            text = f"Case {number}. " + " ".join(words[start : start + 40 + number % 20])
            stream.write(json.dumps({"text": text}) + "\n")
    return path


def write_questions(path: Path) -> Path:
    words = sorted(set(TINY_TEXT.split()))
    with path.open("w", encoding="utf-8") as stream:
        for number in range(24):
            choices = [" " + words[(number * 5 + step * 11) % len(words)] for step in range(4)]
            stream.write(json.dumps({"prompt": f"The {number}", "choices": choices, "answer": number % 4}) + "\n")
    return path


@dataclass(frozen=True)
class Inputs:
    model: Path
    domain: Path
    questions: Path


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    root = tmp_path_factory.mktemp("inputs")
    return Inputs(
        model=write_tiny_llama(root / "tiny-llama", dtype="bfloat16"),
        domain=write_domain(root / "domain.jsonl"),
        questions=write_questions(root / "questions.jsonl"),
    )


@pytest.fixture(scope="session")
def finished(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with all stages finished; treat it as read-only, or take `own_run`."""
    root = tmp_path_factory.mktemp("run") / "out"
    arguments = [
        "run", inputs.model, "--domain", inputs.domain, "--questions", inputs.questions,
        "--context", "128", "--quick", "-o", root,
    ]  # fmt: skip
    code = run_app([str(argument) for argument in arguments])
    assert (root / "report.json").is_file(), f"the run ended with {code}"
    return root


@pytest.fixture
def own_run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run that the test may change."""
    return Path(shutil.copytree(finished, tmp_path / "run"))
