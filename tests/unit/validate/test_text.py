import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from edgeprune.artifacts import read_arrays, write_arrays
from edgeprune.errors import ModelError
from edgeprune.schema.bundle import TextSet
from edgeprune.validate.text import TextRequest, cut_windows, measure_text, read_documents, token_log_probabilities
from tests.device.decoder_graph import TinyDecoder


def request(bundle: Path, *, window_tokens: int = 16, is_quick: bool = False) -> TextRequest:
    text = TextSet(
        name="domain", path="eval/domain.npz", scored_bytes=200, window_tokens=window_tokens, reference_loss_nats=None
    )
    return TextRequest(
        model=str(bundle / "model.onnx"),
        execution_provider="CPUExecutionProvider",
        thread_count=1,
        prefill_chunk_tokens=8,
        text=text,
        path=str(bundle / "eval" / "domain.npz"),
        is_quick=is_quick,
    )


def test_windows_stay_inside_documents_and_lonely_tokens_are_left_out() -> None:
    offsets = np.array([0, 9, 10, 10, 14])
    assert list(cut_windows(offsets, 4)) == [(0, 4), (4, 8), (10, 14)]


def test_log_probabilities_survive_huge_logits() -> None:
    logits = np.array([[1e4, 1e4, -1e4], [0.0, 0.0, 0.0]] * 40, dtype=np.float32)
    found = token_log_probabilities(logits, np.array([0, 2] * 40))
    assert found.reshape(40, 2)[:, 0] == pytest.approx(-math.log(2))
    assert found.reshape(40, 2)[:, 1] == pytest.approx(-math.log(3))


def test_bits_per_byte_are_those_computed_in_numpy(shared_bundle: Path, tiny: TinyDecoder) -> None:
    arrays = read_arrays(shared_bundle / "eval" / "domain.npz")
    tokens, offsets = arrays["tokens"], arrays["offsets"]
    loss, count = 0.0, 0
    for first, last in itertools.pairwise(offsets):
        for begin in range(first, last, 16):
            window = tokens[begin : min(begin + 16, last)].tolist()
            logits = tiny.logits(window)
            logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
            loss -= sum(logits[i, window[i + 1]] for i in range(len(window) - 1))
            count += len(window) - 1
    result = measure_text(request(shared_bundle))
    assert result.scored_token_count == count
    assert result.loss_nats == pytest.approx(loss / count, rel=1e-6)
    assert result.bits_per_byte == pytest.approx(loss / math.log(2) / 200, rel=1e-6)


def test_a_part_of_the_text_is_scored_only_where_its_bytes_are_known(bundle: Path) -> None:
    path = bundle / "eval" / "domain.npz"
    tokens = np.tile(read_arrays(path)["tokens"][:40], 10).astype(np.int32)
    offsets = np.arange(0, 401, 4)
    write_arrays(path, {"tokens": tokens, "offsets": offsets})
    assert measure_text(request(bundle, is_quick=True)).scored_token_count == 300
    write_arrays(path, {"tokens": tokens, "offsets": offsets, "token_bytes": np.full(400, 5, dtype=np.int32)})
    quick = measure_text(request(bundle, is_quick=True))
    assert (quick.scored_token_count, quick.scored_bytes) == (64 * 3, 64 * 3 * 5)


@pytest.mark.parametrize("offsets", [[0, 5], [1, 10], [0, 7, 6, 10], []])
def test_offsets_that_do_not_cut_the_tokens_are_refused(tmp_path: Path, offsets: list[int]) -> None:
    path = tmp_path / "text.npz"
    write_arrays(path, {"tokens": np.arange(10, dtype=np.int32), "offsets": np.array(offsets, dtype=np.int64)})
    with pytest.raises(ModelError, match="malformed"):
        read_documents(path)


def test_tokens_the_model_does_not_have_are_refused(bundle: Path) -> None:
    path = bundle / "eval" / "domain.npz"
    write_arrays(path, {"tokens": np.array([1, 64], dtype=np.int32), "offsets": np.array([0, 2])})
    with pytest.raises(ModelError, match=r"outside 0\.\.63"):
        measure_text(request(bundle))


def test_a_text_of_lonely_tokens_is_refused(bundle: Path) -> None:
    path = bundle / "eval" / "domain.npz"
    write_arrays(path, {"tokens": np.array([1, 2], dtype=np.int32), "offsets": np.array([0, 1, 2])})
    with pytest.raises(ModelError, match="no token that can be scored"):
        measure_text(request(bundle))


def test_a_model_that_computes_nan_is_damaged(bundle: Path) -> None:
    path = bundle / "model.onnx.data"
    path.write_bytes(b"\xff\xff\xff\x7f" * (path.stat().st_size // 4))
    with pytest.raises(ModelError, match="NaN or Inf"):
        measure_text(request(bundle))
