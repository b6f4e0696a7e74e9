"""Conversations as text: the model's own Jinja template, run in a sandbox that cannot change anything."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from edgeprune.errors import ModelError, UsageError

__all__ = ["ChatTemplate"]


class ChatTemplate:
    """The template of a model folder, read when the first chat record needs it."""

    def __init__(self, folder: Path) -> None:
        """Remember the folder; nothing is read."""
        self._folder = folder
        self._template: jinja2.Template | None = None
        self._tokens: dict[str, str] = {}

    @property
    def exists(self) -> bool:
        """Whether the model has a template."""
        return self._source() is not None

    def __call__(self, messages: list[dict[str, Any]], *, is_open: bool = False) -> str:
        """Text of one conversation.

        Args:
            messages: with `role` and `content`.
            is_open: whether the text ends where the assistant is to go on.

        Raises:
            UsageError: the model has no template, or the template refuses the messages.
            ModelError: the template tries to leave its sandbox.
        """
        if self._template is None:
            self._template = self._load()
        try:
            return self._template.render(messages=messages, add_generation_prompt=is_open, tools=None, **self._tokens)
        except SecurityError as error:
            raise ModelError(
                f"The chat template in {self._folder} reaches for what no template may ({error}); do not trust the "
                "model it came with."
            ) from error
        except (jinja2.TemplateError, TypeError, ValueError, KeyError, OverflowError) as error:
            raise UsageError(
                f"The chat template in {self._folder} refuses the messages ({error}); repair them or give plain text."
            ) from error

    def _source(self) -> str | None:
        file = self._folder / "chat_template.jinja"
        if file.is_file():
            return file.read_text(encoding="utf-8")
        source = self._tokenizer_config().get("chat_template")
        if isinstance(source, list):
            # Several named templates: `default` is the one for plain conversations.
            named = {item.get("name"): item.get("template") for item in source if isinstance(item, Mapping)}
            source = named.get("default")
        return source if isinstance(source, str) else None

    def _load(self) -> jinja2.Template:
        config = self._tokenizer_config()
        source = self._source()
        if source is None:
            raise UsageError(
                f"The model in {self._folder} has no chat template, so messages cannot be rendered; "
                'give plain text or {"text": ...} records.'
            )
        self._tokens = {name: _token_text(config.get(name)) for name in ("bos_token", "eos_token", "pad_token")}
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.globals["raise_exception"] = _raise
        environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
        try:
            return environment.from_string(source)
        except jinja2.TemplateError as error:
            raise UsageError(
                f"The chat template in {self._folder} is not valid ({error}); give plain text instead."
            ) from error

    def _tokenizer_config(self) -> dict[str, Any]:
        path = self._folder / "tokenizer_config.json"
        if not path.is_file():
            return {}
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UsageError(f"{path} is not JSON ({error}); repair the model folder.") from error
        return config if isinstance(config, dict) else {}


def _token_text(value: object) -> str:
    if isinstance(value, Mapping):
        value = value.get("content")
    return value if isinstance(value, str) else ""


def _raise(message: str) -> str:
    raise jinja2.TemplateError(message)
