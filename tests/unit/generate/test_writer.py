"""A bundle writes what its graph says: the shipped int4 bundle of the demo, in plain onnxruntime."""

import numpy as np
import pytest

pytest.importorskip("tokenizers")

from edgeprune.demo.paths import DEVICE_BUNDLE, demo_device_path
from edgeprune.errors import UsageError
from edgeprune.generate.writer import Writer
from edgeprune.pipeline.generate import OpenWriter, open_writer, plain_conversation
from edgeprune.runtime.decode import Decoder
from edgeprune.runtime.generate import greedy
from edgeprune.runtime.session import open_session
from edgeprune.schema.generation import Sampling

BUNDLE = demo_device_path() / DEVICE_BUNDLE
PROMPT = "The court held that the"


@pytest.fixture(scope="module")
def opened() -> OpenWriter:
    return open_writer(BUNDLE, thread_count=1)


@pytest.fixture
def writer(opened: OpenWriter) -> Writer:
    return opened.writer


def test_greedy_text_is_what_the_decoder_gives_token_by_token(writer: Writer) -> None:
    ids = writer.encode(PROMPT)
    decoder = Decoder(open_session(BUNDLE / "model.onnx", thread_count=1), max_tokens=64, prefill_chunk_tokens=64)
    wanted = greedy(decoder, ids, 24, stop=(0,))
    found = writer.write(PROMPT, Sampling(max_tokens=24))
    tokenizer = writer._tokenizer
    assert found.text == tokenizer.decode([*ids, *wanted])[len(tokenizer.decode(ids)) :]
    assert found.completion_tokens == 24
    assert found.finish_reason == "length"
    assert found.prompt_tokens == len(ids)


def test_what_a_prompt_shares_with_the_last_text_changes_nothing(opened: OpenWriter) -> None:
    first = opened.writer.write(PROMPT, Sampling(max_tokens=16))
    longer = PROMPT + first.text + " and"
    again = opened.writer.write(longer, Sampling(max_tokens=16))
    fresh = open_writer(BUNDLE, thread_count=1).writer.write(longer, Sampling(max_tokens=16))
    assert again.text == fresh.text
    assert opened.writer.write(PROMPT, Sampling(max_tokens=16)).text == first.text


def test_an_answer_ends_before_a_stop_text(writer: Writer) -> None:
    whole = writer.write(PROMPT, Sampling(max_tokens=40)).text
    stop = whole[len(whole) // 2 : len(whole) // 2 + 4]
    found = writer.write(PROMPT, Sampling(max_tokens=40, stop=(stop,)))
    assert found.text == whole[: whole.index(stop)]
    assert found.finish_reason == "stop"


def test_an_answer_ends_at_the_context(writer: Writer) -> None:
    text = PROMPT
    while len(writer.encode(text + " river" * 50)) < 500:
        text += " river" * 50
    ids = writer.encode(text)
    found = writer.write(text, Sampling(max_tokens=10_000, temperature=5.0, seed=0))
    assert found.finish_reason in ("length", "stop")
    assert found.completion_tokens <= 512 - len(ids)


@pytest.mark.parametrize(("prompt", "words"), [("", "empty"), ("river " * 600, "shorten it")])
def test_a_prompt_that_cannot_be_continued_is_refused(writer: Writer, prompt: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        writer.write(prompt, Sampling())


def test_a_reader_that_leaves_ends_the_text(writer: Writer) -> None:
    ids = writer.encode(PROMPT)
    seen: list[int] = []
    pieces = [
        piece
        for count, piece in writer.stream(ids, Sampling(max_tokens=100), is_cancelled=lambda: len(seen) >= 3)
        if seen.append(count) is None  # type: ignore[func-returns-value]
    ]
    assert pieces[-1].finish_reason == "cancelled"
    assert len(seen) <= 5


def test_pieces_are_whole_characters(writer: Writer) -> None:
    found: list[str] = []
    writer.write(PROMPT, Sampling(max_tokens=60, temperature=30.0, seed=3), told=found.append)
    assert "".join(found).encode()
    # Bytes that make no character may be written as the replacement character, but only ever one piece at a time.
    assert np.mean(["\ufffd" in piece for piece in found]) < 0.5


def test_a_model_without_a_chat_format_gets_a_transcript() -> None:
    messages = [{"role": "user", "content": "Good day."}]
    assert plain_conversation(messages) == "User: Good day.\nAssistant:"
    with pytest.raises(UsageError, match="text alone"):
        plain_conversation([{"role": "user", "content": [{"type": "image_url"}]}])
