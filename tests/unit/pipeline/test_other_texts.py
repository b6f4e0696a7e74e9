"""Texts that are measured to say what was forgotten."""

import json
from pathlib import Path

import pytest

from edgeprune.artifacts import RunFolder
from edgeprune.errors import CalibrationError
from edgeprune.pipeline.other_texts import other_inputs, other_texts, text_names
from edgeprune.pipeline.table import Run
from edgeprune.schema.events import Event, NullProgress
from edgeprune.schema.run import RunManifest, RunRequest
from tests.tiny import write_tiny_llama

DOCUMENTS = ["The patient has a fever and was given two tablets.", "word"]


class _Listener(NullProgress):
    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_llama(tmp_path / "model")


def _run(tmp_path: Path, *also: Path, progress: NullProgress | None = None) -> Run:
    request = RunRequest(also=tuple(map(str, also)))
    return Run(
        folder=RunFolder(tmp_path / "run"),
        request=request,
        manifest=RunManifest(request=request),
        progress=progress or NullProgress(),
    )


def _give_template(model: Path, template: str) -> None:
    config = json.loads((model / "tokenizer_config.json").read_text())
    (model / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": template}))


def test_names_come_from_the_files_and_never_clash() -> None:
    paths = ["/a/finance.jsonl", "/b/finance.txt", "/c/domain.txt", "/d/Old Laws!.md", "/e/chat", "/f/....txt"]
    names = text_names(paths)
    assert names == ["finance", "finance-2", "domain-2", "old-laws", "chat-2", "text"]
    assert not {"domain", "general", "chat"} & set(names)


def test_a_model_without_template_and_no_other_text_measures_nothing_more(tmp_path: Path, model: Path) -> None:
    run = _run(tmp_path)
    assert other_texts(run, model, DOCUMENTS) == []
    assert other_inputs(run) == []


def test_other_fields_are_read_whole_and_count_in_the_key(tmp_path: Path, model: Path) -> None:
    finance = tmp_path / "finance.jsonl"
    finance.write_text('{"text": "The bank pays."}\n{"text": "The bond falls."}\n')
    run = _run(tmp_path, finance)
    (text,) = other_texts(run, model, DOCUMENTS)
    assert (text.name, text.documents) == ("finance", ["The bank pays.", "The bond falls."])
    before = other_inputs(run)
    finance.write_text('{"text": "The bank lends."}\n')
    assert other_inputs(_run(tmp_path, finance)) != before
    empty = tmp_path / "empty.txt"
    empty.write_text("")
    with pytest.raises(CalibrationError, match=r"empty\.txt"):
        other_texts(_run(tmp_path, empty), model, DOCUMENTS)


def test_a_chat_template_adds_the_domain_in_that_format(tmp_path: Path, model: Path) -> None:
    _give_template(model, "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}")
    (text,) = other_texts(_run(tmp_path), model, DOCUMENTS)
    assert text.name == "chat"
    assert len(text.documents) == 1
    assert text.documents[0].startswith("<user>The patient")
    assert "<assistant>" in text.documents[0]


def test_a_template_that_refuses_is_said_and_stops_nothing(tmp_path: Path, model: Path) -> None:
    _give_template(model, "{{ raise_exception('only one role') }}")
    listener = _Listener()
    assert other_texts(_run(tmp_path, progress=listener), model, DOCUMENTS) == []
    assert [event.kind for event in listener.events] == ["noted"]
    assert "only one role" in listener.events[0].message
