"""Texts measured beside the domain's and the general one, so that the report can say what was forgotten.

Other fields that the user names with `--also`, and, where the model has a chat template, the domain's report text in
that format. Nothing is calibrated or selected on them.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgeprune.pipeline.table import Run
from edgeprune.schema.events import Event

if TYPE_CHECKING:
    from edgeprune.export.evaluation import EvaluationText

__all__ = ["CHAT", "other_inputs", "other_texts", "text_names"]

CHAT = "chat"
_TAKEN = ("domain", "general", CHAT)
_CHAT_BYTES = 32 * 1024
"""Of the domain's text: the format repeats itself, and every bundle is measured on it."""


def other_inputs(run: Run) -> list[object]:
    """What the texts depend on besides the model; nothing where none was named, so that older keys stay."""
    return [[run.hash_of(Path(path)) for path in run.request.also]] if run.request.also else []


def text_names(paths: Sequence[str]) -> list[str]:
    """A name for each path, made of its stem; no two alike, none that another text has."""
    names: list[str] = []
    for path in paths:
        stem = re.sub(r"[^a-z0-9_-]+", "-", Path(path).stem.lower()).strip("-") or "text"
        name, number = stem, 1
        while name in (*_TAKEN, *names):
            number += 1
            name = f"{stem}-{number}"
        names.append(name)
    return names


def other_texts(run: Run, model_folder: Path, domain: Sequence[str]) -> "list[EvaluationText]":
    """Texts of other fields, and the domain's report documents in chat format.

    Args:
        run: for what the user named.
        model_folder: of the dense model.
        domain: report documents of the domain.

    Raises:
        CalibrationError: a text that cannot be read.
    """
    from edgeprune.calibrate.chat_text import as_conversations
    from edgeprune.calibrate.documents import read_documents
    from edgeprune.chat_template import ChatTemplate
    from edgeprune.errors import UsageError
    from edgeprune.export.evaluation import EvaluationText, limit_documents

    template = ChatTemplate(model_folder)
    found = [
        EvaluationText(
            name=name,
            documents=read_documents([Path(path)], render=template),
            description=f"{Path(path).name}, as given",
        )
        for name, path in zip(text_names(run.request.also), run.request.also, strict=True)
    ]
    if template.exists:
        try:
            documents = as_conversations(limit_documents(domain, limit_bytes=_CHAT_BYTES)[0], template)
        except UsageError as error:
            # A template may refuse what any other takes; the run's own result does not hang on this text.
            message = f"the loss in chat format is not measured: {error}"
            run.progress.emit(Event(kind="noted", stage="export", message=message))
            documents = []
        if documents:
            found.append(EvaluationText(name=CHAT, documents=documents, description="domain report text as a chat"))
    return found
