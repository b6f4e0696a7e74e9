from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeprune.errors import ModelError, UsageError
from edgeprune.runtime.decode import Decoder
from edgeprune.runtime.generate import greedy
from edgeprune.runtime.probe_graph import Graph, trivial_chain
from edgeprune.runtime.probe_graph_wire import Node, TypedValue
from edgeprune.runtime.session import open_session
from tests.device.decoder_graph import TinyDecoder

TOKENS = np.random.default_rng(3).integers(0, 64, 40)
CLOSE = 2e-5
"""Largest logits are about 10, sums are float32."""


@pytest.fixture(scope="module")
def tiny() -> TinyDecoder:
    return TinyDecoder()


@pytest.fixture(scope="module")
def session(tiny: TinyDecoder) -> Any:
    return open_session(tiny.graph().to_bytes(), thread_count=1)


def all_logits(decoder: Decoder, tokens: NDArray[Any]) -> NDArray[np.float32]:
    return np.concatenate(list(decoder.logits(tokens)))


@pytest.mark.parametrize("chunk", [1, 7, 16, 64])
def test_logits_are_those_of_numpy_whatever_the_pieces(tiny: TinyDecoder, session: Any, chunk: int) -> None:
    decoder = Decoder(session, max_tokens=48, prefill_chunk_tokens=chunk)
    assert np.abs(all_logits(decoder, TOKENS) - tiny.logits(TOKENS.tolist())).max() < CLOSE
    assert decoder.position == 40
    assert decoder.is_cache_shared


def test_prefill_then_steps_follow_numpy(tiny: TinyDecoder, session: Any) -> None:
    expected = tiny.logits(TOKENS.tolist())
    decoder = Decoder(session, max_tokens=40, prefill_chunk_tokens=8)
    found = [decoder.prefill(TOKENS[:20])] + [decoder.step(int(token)) for token in TOKENS[20:]]
    assert np.abs(np.stack(found) - expected[19:]).max() < CLOSE


def test_the_cache_updated_in_place_holds_what_a_growing_cache_holds(session: Any) -> None:
    shared = Decoder(session, max_tokens=40, prefill_chunk_tokens=8)
    names = [entry.name for entry in session.get_inputs() if entry.name.startswith("past")]
    past = {name: np.zeros((1, 1, 0, 16), dtype=np.float32) for name in names}
    outputs = ["logits", *(name.replace("past_key_values", "present") for name in names)]
    for position, token in enumerate(TOKENS):
        feeds = {
            "input_ids": np.array([[token]], dtype=np.int64),
            "attention_mask": np.ones((1, position + 1), dtype=np.int64),
            **past,
        }
        logits, *presents = session.run(outputs, feeds)
        past = dict(zip(names, presents, strict=True))
        assert np.array_equal(shared.step(int(token)), logits[0, 0])
        for name, buffer in shared.cache.arrays().items():
            assert np.array_equal(buffer[:, :, : position + 1], past[name])


def test_what_stood_in_the_buffers_before_is_never_read(session: Any) -> None:
    decoder = Decoder(session, max_tokens=40, prefill_chunk_tokens=8)
    expected = all_logits(decoder, TOKENS)
    decoder.reset()
    decoder.cache.fill(float("nan"))
    assert np.array_equal(all_logits(decoder, TOKENS), expected)


def test_rewinding_forgets_what_came_after(session: Any) -> None:
    decoder = Decoder(session, max_tokens=40, prefill_chunk_tokens=8)
    expected = all_logits(decoder, TOKENS)
    decoder.rewind(10)
    decoder.prefill(TOKENS[::-1][:5])
    decoder.rewind(10)
    assert np.abs(all_logits(decoder, TOKENS[10:]) - expected[10:]).max() < CLOSE
    with pytest.raises(UsageError, match="Cannot go from position 40 back to 41"):
        decoder.rewind(41)


def test_greedy_writes_what_numpy_writes_and_stops(tiny: TinyDecoder, session: Any) -> None:
    prompt = TOKENS[:6].tolist()
    expected = tiny.greedy(prompt, 12)
    decoder = Decoder(session, max_tokens=40, prefill_chunk_tokens=8)
    assert greedy(decoder, prompt, 12) == expected
    decoder.reset()
    assert greedy(decoder, prompt, 12, stop=[expected[4]]) == expected[: expected.index(expected[4]) + 1]
    decoder.reset()
    assert greedy(decoder, prompt, 0) == []


def test_a_text_longer_than_the_decoder_is_refused(session: Any) -> None:
    decoder = Decoder(session, max_tokens=10, prefill_chunk_tokens=8)
    with pytest.raises(UsageError, match="opened for 10"):
        decoder.prefill(TOKENS[:11])


def test_an_empty_prompt_is_refused(session: Any) -> None:
    with pytest.raises(UsageError, match="no token to feed"):
        Decoder(session, max_tokens=10, prefill_chunk_tokens=8).prefill([])


def test_a_graph_that_is_no_decoder_is_refused() -> None:
    with pytest.raises(ModelError, match="asks for the input x0"):
        Decoder(open_session(trivial_chain(1).to_bytes(), thread_count=1), max_tokens=4, prefill_chunk_tokens=4)


def test_a_past_without_a_present_is_refused() -> None:
    past = TypedValue("past_key_values.0.key", "float32", ["batch", 1, "past", 4])
    graph = Graph([Node("Neg", [past.name], ["y"])], [past], [TypedValue("y", "float32", ["batch", 1, "past", 4])])
    with pytest.raises(ModelError, match=r"no output present\.0\.key"):
        Decoder(open_session(graph.to_bytes(), thread_count=1), max_tokens=4, prefill_chunk_tokens=4)


def test_a_graph_without_cache_still_scores_single_tokens(tmp_path: Path) -> None:
    table = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
    graph = Graph(
        [Node("Gather", ["table", "input_ids"], ["logits"])],
        [TypedValue("input_ids", "int64", ["batch", "rows"])],
        [TypedValue("logits", "float32", ["batch", "rows", 8])],
        {"table": table},
    )
    decoder = Decoder(open_session(graph.to_bytes(), thread_count=1), max_tokens=4, prefill_chunk_tokens=4)
    assert np.array_equal(all_logits(decoder, np.array([3, 1])), table[[3, 1]])
