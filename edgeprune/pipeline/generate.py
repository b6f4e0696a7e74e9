"""Opens a bundle to write text, once its manifest has vouched for every file."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from edgeprune.chat_template import ChatTemplate
from edgeprune.errors import UsageError
from edgeprune.pipeline.settings import EXECUTION_PROVIDERS

if TYPE_CHECKING:
    from edgeprune.generate.writer import Writer

__all__ = ["OpenWriter", "open_writer", "plain_conversation"]

PLAIN_STOP = "\nUser:"
"""Ends an answer of a model without a chat template."""


class OpenWriter(NamedTuple):
    """A bundle that writes."""

    writer: "Writer"
    template: ChatTemplate
    name: str
    """Name of the bundle's folder, as `/v1/models` lists it."""

    def conversation(self, messages: list[dict[str, Any]]) -> tuple[str, tuple[str, ...]]:
        """The prompt of a conversation and the texts that end the answer; without a template, a plain transcript."""
        if self.template.exists:
            return self.template(messages, is_open=True), ()
        return plain_conversation(messages), (PLAIN_STOP,)


def open_writer(folder: Path, *, execution_provider: str = "cpu", thread_count: int | None = None) -> OpenWriter:
    """Verify a bundle and open it.

    Raises:
        ModelError: the bundle is damaged, or its graph or tokenizer cannot be read.
        RuntimeUnavailableError: onnxruntime, the provider or the tokenizers library is missing.
    """
    from edgeprune.generate.writer import Writer, load_tokenizer
    from edgeprune.runtime.decode import Decoder
    from edgeprune.runtime.session import open_session
    from edgeprune.runtime.threads import usable_core_count
    from edgeprune.validate.bundle import open_bundle

    bundle = open_bundle(folder)
    workload = bundle.manifest.workload
    tokenizer = load_tokenizer(bundle.folder / "tokenizer.json")
    session = open_session(
        bundle.model_path,
        execution_provider=EXECUTION_PROVIDERS[execution_provider],
        thread_count=thread_count or usable_core_count(),
    )
    decoder = Decoder(session, max_tokens=workload.context_tokens, prefill_chunk_tokens=workload.prefill_chunk_tokens)
    writer = Writer(
        decoder,
        tokenizer,
        end_tokens=bundle.manifest.spec.eos_token_ids,
        context_tokens=workload.context_tokens,
    )
    return OpenWriter(writer=writer, template=ChatTemplate(bundle.folder), name=folder.resolve().name)


def plain_conversation(messages: list[dict[str, Any]]) -> str:
    """A transcript for models that were never taught a chat format.

    Raises:
        UsageError: a message without text.
    """
    lines = []
    for message in messages:
        content = message.get("content")
        if not isinstance(content, str):
            raise UsageError("A message has no text as content; this model takes text alone.")
        lines.append(f"{str(message.get('role', 'user')).capitalize()}: {content}")
    return "\n".join([*lines, "Assistant:"])
