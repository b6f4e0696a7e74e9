"""A tokenizer made to fill the memory is refused before it is read, wherever one is read."""

import json
from pathlib import Path

import pytest

from edgeprune.artifacts import TOKENIZER_MOST_BYTES
from edgeprune.errors import ExitCode, ModelError
from edgeprune.generate.writer import load_tokenizer as load_for_writing
from edgeprune.intake.load import load_tokenizer
from tests.tiny import tiny_tokenizer_json


def test_ten_million_merges_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    tokenizer = json.loads(tiny_tokenizer_json())
    tokenizer["model"]["merges"] = []
    text = json.dumps(tokenizer)
    # As short as a merge can be written.
    path.write_text(text.replace('"merges": []', '"merges": [' + ",".join(['"a b"'] * 10_000_000) + "]"))
    assert path.stat().st_size > TOKENIZER_MOST_BYTES
    for load in (lambda: load_tokenizer(tmp_path), lambda: load_for_writing(path)):
        with pytest.raises(ModelError, match="more than the tokens and merges of any model's tokenizer take") as raised:
            load()
        assert raised.value.exit_code == ExitCode.MODEL


def test_a_sound_one_is_read(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(tiny_tokenizer_json())
    assert load_tokenizer(tmp_path).get_vocab_size() == 512
