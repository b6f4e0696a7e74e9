"""The small decoders behave as bundles do in the decode loop."""

import numpy as np
import pytest

from edgeprune.runtime.decode import Decoder
from edgeprune.runtime.probe_graph_decoder import cache_graph, decoder_graph
from edgeprune.runtime.session import open_session


@pytest.mark.parametrize("kernel", ["fp32", "int4_b32_a0"])
def test_step_by_step_equals_all_at_once(kernel: str) -> None:
    session = open_session(decoder_graph(2, kernel=kernel).to_bytes(), thread_count=1)
    tokens = [3, 1, 4, 1, 5, 9, 2, 6]
    whole = Decoder(session, max_tokens=16, prefill_chunk_tokens=16).prefill(tokens)
    decoder = Decoder(session, max_tokens=16, prefill_chunk_tokens=16)
    decoder.prefill(tokens[:3])
    for token in tokens[3:]:
        stepped = decoder.step(token)
    assert decoder.is_cache_shared
    np.testing.assert_allclose(stepped, whole, rtol=1e-4, atol=1e-4)
    assert np.ptp(whole) > 0.0


def test_more_blocks_are_more_nodes_of_one_kind() -> None:
    one, two, three = (len(decoder_graph(count, kernel="fp32").nodes) for count in (1, 2, 3))
    assert three - two == two - one == 11


def test_cache_graph_has_as_many_pairs_as_asked() -> None:
    session = open_session(cache_graph(3).to_bytes(), thread_count=1)
    decoder = Decoder(session, max_tokens=4, prefill_chunk_tokens=1)
    assert len(decoder.cache.input_names) == 6
    np.testing.assert_array_equal(decoder.step(1), np.ones(16, np.float32))
