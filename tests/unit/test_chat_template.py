import json
from pathlib import Path

import pytest

from edgeprune.chat_template import ChatTemplate
from edgeprune.errors import ExitCode, ModelError, UsageError

TEMPLATE = "{{ bos_token }}{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}{% endfor %}"
MESSAGES = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "good day"}]


def folder(tmp_path: Path, template: object) -> Path:
    config = {"bos_token": {"content": "<s>"}, "chat_template": template}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    return tmp_path


def test_renders_through_the_models_own_template(tmp_path: Path) -> None:
    assert ChatTemplate(folder(tmp_path, TEMPLATE))(MESSAGES) == "<s><user>hello<assistant>good day"


def test_takes_the_default_of_several_and_prefers_the_file(tmp_path: Path) -> None:
    several = [{"name": "tool", "template": "no"}, {"name": "default", "template": "yes"}]
    assert ChatTemplate(folder(tmp_path, several))(MESSAGES) == "yes"
    (tmp_path / "chat_template.jinja").write_text("from the file")
    assert ChatTemplate(tmp_path)(MESSAGES) == "from the file"


def test_refuses_without_a_template(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no chat template"):
        ChatTemplate(tmp_path)(MESSAGES)


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('roles must alternate') }}",
        "{% for",
    ],
)
def test_a_broken_template_is_refused(tmp_path: Path, template: str) -> None:
    with pytest.raises(UsageError, match="The chat template in"):
        ChatTemplate(folder(tmp_path, template))(MESSAGES)


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ (messages | attr('append'))(1) }}",
        "{{ raise_exception.__globals__['json'] }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ '{0.__class__.__mro__}'.format(messages) }}",
    ],
)
def test_a_template_that_tries_to_escape_has_its_own_sentence(tmp_path: Path, template: str) -> None:
    with pytest.raises(ModelError, match="reaches for what no template may") as raised:
        ChatTemplate(folder(tmp_path, template))(MESSAGES)
    assert raised.value.exit_code == ExitCode.MODEL
