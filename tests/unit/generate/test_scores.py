"""Log-probabilities a scoring client asks for: the graph's own, of the prompt and of what follows it."""

import asyncio
from typing import Any

import httpx
import numpy as np
import pytest

pytest.importorskip("tokenizers")

from edgeprune.demo.paths import DEVICE_BUNDLE, demo_device_path
from edgeprune.generate.server import build_app
from edgeprune.pipeline.generate import OpenWriter, open_writer
from edgeprune.runtime.decode import Decoder
from edgeprune.runtime.session import open_session
from edgeprune.schema.generation import Sampling

BUNDLE = demo_device_path() / DEVICE_BUNDLE
PROMPT = "The court held that the"


@pytest.fixture(scope="module")
def opened() -> OpenWriter:
    return open_writer(BUNDLE, thread_count=1)


def ask(opened: OpenWriter, **body: object) -> dict[str, Any]:
    async def post() -> httpx.Response:
        app = build_app(opened.writer, opened.conversation, name="demo")
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1") as client:
            return await client.post("/v1/completions", json={"temperature": 0} | body)

    found = asyncio.run(post())
    assert found.status_code == 200, found.text
    answer: dict[str, Any] = found.json()
    return answer


def log_probabilities(ids: list[int]) -> np.ndarray:
    """[n, vocab] float64: row i tells of the token after ids[:i + 1], each prefix read anew."""
    decoder = Decoder(open_session(BUNDLE / "model.onnx", thread_count=1), max_tokens=64, prefill_chunk_tokens=64)
    rows = []
    for end in range(1, len(ids) + 1):
        decoder.reset()
        logits = decoder.prefill(ids[:end]).astype(np.float64)
        rows.append(logits - np.log(np.exp(logits).sum()))
    return np.array(rows)


def test_an_echoed_prompt_carries_the_graphs_own_log_probabilities(opened: OpenWriter) -> None:
    ids = opened.writer.encode(PROMPT)
    choice = ask(opened, prompt=ids, echo=True, logprobs=1, max_tokens=1)["choices"][0]
    wanted = log_probabilities(ids)
    scores = choice["logprobs"]
    assert scores["token_logprobs"][0] is None
    assert scores["top_logprobs"][0] is None
    expected = [wanted[row, token] for row, token in enumerate(ids[1:])]
    assert scores["token_logprobs"][1:-1] == pytest.approx(expected, abs=1e-3)
    assert scores["token_logprobs"][-1] == pytest.approx(wanted[-1].max(), abs=1e-3)
    for row, tops in enumerate(scores["top_logprobs"][1:]):
        assert max(tops.values()) == pytest.approx(wanted[row].max(), abs=1e-3)
        # A token is the most likely one exactly where its own figure is the largest: clients compare the two.
        is_greedy = scores["token_logprobs"][row + 1] == max(tops.values())
        written = [*ids, int(wanted[-1].argmax())][row + 1]
        assert is_greedy == (written == wanted[row].argmax())
    assert "".join(scores["tokens"]) == choice["text"]
    assert choice["text"].startswith(PROMPT)
    assert [choice["text"][at:] for at in scores["text_offset"]] == [
        "".join(scores["tokens"][index:]) for index in range(len(scores["tokens"]))
    ]


def test_a_prompt_is_scored_alone_and_written_on_alone(opened: OpenWriter) -> None:
    ids = opened.writer.encode(PROMPT)
    alone = ask(opened, prompt=PROMPT, echo=True, logprobs=0, max_tokens=0)
    assert len(alone["choices"][0]["logprobs"]["tokens"]) == len(ids)
    assert alone["choices"][0]["text"] == PROMPT
    assert alone["usage"] == {"prompt_tokens": len(ids), "completion_tokens": 0, "total_tokens": len(ids)}
    after = ask(opened, prompt=PROMPT, logprobs=2, max_tokens=6)["choices"][0]
    assert after["text"] == opened.writer.write(PROMPT, Sampling(max_tokens=6)).text
    assert len(after["logprobs"]["tokens"]) == 6
    assert all(len(tops) == 2 for tops in after["logprobs"]["top_logprobs"])
    plain = ask(opened, prompt=PROMPT, echo=True, max_tokens=6)["choices"][0]
    assert plain["text"] == PROMPT + after["text"]
    assert plain["logprobs"] is None


def test_several_prompts_are_answered_as_each_alone(opened: OpenWriter) -> None:
    prompts = [PROMPT, "The patient was given"]
    together = ask(opened, prompt=prompts, echo=True, logprobs=1, max_tokens=1)
    for index, prompt in enumerate(prompts):
        single = ask(opened, prompt=prompt, echo=True, logprobs=1, max_tokens=1)["choices"][0]
        assert together["choices"][index] == single | {"index": index}


def test_a_stop_text_ends_the_tokens_too(opened: OpenWriter) -> None:
    whole = opened.writer.write(PROMPT, Sampling(max_tokens=40)).text
    stop = whole[len(whole) // 2 : len(whole) // 2 + 4]
    found = ask(opened, prompt=PROMPT, logprobs=0, max_tokens=40, stop=stop)["choices"][0]
    assert found["text"] == whole[: whole.index(stop)]
    assert found["finish_reason"] == "stop"
    assert all(at < len(found["text"]) for at in found["logprobs"]["text_offset"])


def test_scoring_leaves_nothing_behind_for_the_next_text(opened: OpenWriter) -> None:
    before = opened.writer.write(PROMPT, Sampling(max_tokens=12)).text
    ask(opened, prompt="Another text altogether", echo=True, logprobs=1, max_tokens=1)
    assert opened.writer.write(PROMPT, Sampling(max_tokens=12)).text == before
