"""Does the bundle compute what the torch model computes? Logits, most likely tokens and a greedy continuation.

Torch of the compressed model holds the dequantised weights, so it is the oracle for every kernel. What remains are the
kernels' own liberties: float32 sums in another order, and activations rounded to int8. The second is large (1 % of the
largest logit on a trained model of 16 blocks, more than 30 % on a random one of 12) and would hide a wrong graph;
therefore a graph with such kernels is also run with float32 activations (`edgeprune.export.exact`), where only packing
and wiring can differ, and that run is held to the strict tolerance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from edgeprune.errors import ParityError
from edgeprune.export.exact import exact_graph, rounds_activations
from edgeprune.export.weights import GRAPH_FILE
from edgeprune.intake.load import LoadedModel
from edgeprune.intake.stored.store import store_of
from edgeprune.runtime.decode import Decoder
from edgeprune.runtime.generate import greedy
from edgeprune.runtime.session import open_session
from edgeprune.runtime.threads import usable_core_count
from edgeprune.schema.budget import Workload
from edgeprune.schema.bundle import ParityRecord
from edgeprune.schema.model import ModelSpec

__all__ = [
    "CACHE_TOLERANCE",
    "EXACT_TOLERANCE",
    "GREEDY_TOKENS",
    "HALF_TOLERANCE",
    "ROUNDED_TOLERANCE",
    "STORED_GREEDY_TOKENS",
    "check_parity",
    "tolerance_of",
]

EXACT_TOLERANCE = 3e-4
"""Share of the largest logit, activations in float32: sums in another order. The largest seen: 3e-6 on random models of
two blocks of every family, 1e-6 on a trained one of 16, 3e-5 on a random one of 12 with 100 million weights. A wrong
weight matrix or position gives 1e-2 and more."""

ROUNDED_TOLERANCE = 1.0
"""The same where kernels round activations: unrelated logits differ by about this much. The strict test is the exact
run; this one only refuses a runtime whose integer kernels are broken."""

CACHE_TOLERANCE = 1e-2
"""The same where the cache has 8 bits: torch rounds keys and values alike, but one that stands between two integers may
go the other way, and what follows differs by a step of it. 2e-3 was seen on a trained model of 16 blocks, 3e-5 on
random ones of three."""

HALF_TOLERANCE = 2e-2
"""The same where the graph computes in float16, whose steps are 1e-3 of a value: 7e-3 was seen on random models of
three blocks."""

GREEDY_TOKENS = 32
STORED_GREEDY_TOKENS = 8
"""Of a model that stays in files: torch reads all of it once for every token."""

_PROMPT_TOKENS = 16
_WINDOW_TOKENS = 96
_WINDOW_COUNT = 4

_NEAR_TIE = 1e-3
"""Two tokens whose logits differ by less than this share of the largest logit may swap places."""


@dataclass(frozen=True)
class _Difference:
    largest: float
    agreement: float


def tolerance_of(spec: ModelSpec, *, is_half: bool = False) -> float:
    """The tolerance for a model's kernels and cache as they are."""
    return ROUNDED_TOLERANCE if rounds_activations(spec) else _exact_tolerance(spec, is_half=is_half)


def _exact_tolerance(spec: ModelSpec, *, is_half: bool) -> float:
    """The tolerance where no kernel rounds activations to integers."""
    if is_half:
        return HALF_TOLERANCE
    return CACHE_TOLERANCE if spec.kv_bits == 8 else EXACT_TOLERANCE


def check_parity(
    loaded: LoadedModel, folder: Path, *, tokens: Sequence[int], workload: Workload, is_half: bool = False
) -> ParityRecord:
    """Compare torch and onnxruntime on a text.

    Args:
        loaded: the compressed model.
        folder: holds the graph and its weights.
        tokens: what to compare on; at least two.
        workload: context and prompt pieces as on the device.
        is_half: the graph computes in float16.

    Raises:
        ParityError: logits differ by more than the kernels explain, or the text they continue with does.
    """
    windows = _windows(tokens, min(_WINDOW_TOKENS, workload.context_tokens))
    expected = [_torch_logits(loaded.model, window) for window in windows]
    tolerance = tolerance_of(loaded.spec, is_half=is_half)
    exact = None
    # One session at a time: each holds the weights as its kernels want them.
    if rounds_activations(loaded.spec):
        with exact_graph(folder) as path:
            exact_decoder = _open(path, workload)
            exact = _compare(expected, [_decoder_logits(exact_decoder, window) for window in windows]).largest
            del exact_decoder
        allowed = _exact_tolerance(loaded.spec, is_half=is_half)
        if not exact <= allowed:
            raise ParityError(
                f"Where no kernel rounds activations the graph's logits differ from torch's by {exact:.2e} of the "
                f"largest, allowed are {allowed:.0e}; the graph or its packed weights are wrong, report this model."
            )
    decoder = _open(folder / GRAPH_FILE, workload)
    difference = _compare(expected, [_decoder_logits(decoder, window) for window in windows])
    if not difference.largest <= tolerance:
        raise ParityError(
            f"The graph's logits differ from torch's by {difference.largest:.2e} of the largest, allowed are "
            f"{tolerance:.0e}; export with another kernel, or report this model."
        )
    return _continue(loaded, decoder, windows[0], workload, difference, tolerance, exact)


def _continue(
    loaded: LoadedModel,
    decoder: Decoder,
    window: NDArray[np.int64],
    workload: Workload,
    difference: _Difference,
    tolerance: float,
    exact: float | None,
) -> ParityRecord:
    """Greedy continuation by torch and by the graph; an exact graph must follow until a near tie."""
    prompt = window[: max(1, min(_PROMPT_TOKENS, workload.context_tokens // 2))].tolist()
    most = GREEDY_TOKENS if store_of(loaded.model) is None else STORED_GREEDY_TOKENS
    count = min(most, workload.context_tokens - len(prompt))
    continuation, gaps = _torch_greedy(loaded.model, prompt, count)
    decoder.reset()
    produced = greedy(decoder, prompt, count)
    same = [left == right for left, right in zip(continuation, produced, strict=True)]
    matched = same.index(False) if False in same else len(same)
    if tolerance <= EXACT_TOLERANCE and matched < len(continuation) and gaps[matched] > _NEAR_TIE:
        raise ParityError(
            f"The graph continues a text with token {produced[matched]} where torch continues with "
            f"{continuation[matched]}, after {matched} equal tokens; the graph's cache or positions are wrong."
        )
    return ParityRecord(
        prompt_token_count=len(prompt),
        max_logit_difference=difference.largest,
        tolerance=tolerance,
        exact_logit_difference=exact,
        top1_agreement=difference.agreement,
        greedy_prompt=tuple(prompt),
        greedy_tokens=tuple(continuation),
        greedy_matched_count=matched,
    )


def _windows(tokens: Sequence[int], length: int) -> list[NDArray[np.int64]]:
    array = np.asarray(tokens, dtype=np.int64)
    assert len(array) >= 2
    starts = range(0, len(array) - 1, length)
    return [array[start : start + length] for start in starts[:_WINDOW_COUNT]]


def _open(path: Path, workload: Workload) -> Decoder:
    session = open_session(path, thread_count=workload.thread_count or usable_core_count())
    chunk = min(workload.prefill_chunk_tokens, _WINDOW_TOKENS // 2)  # so that every window crosses a piece's end
    return Decoder(session, max_tokens=workload.context_tokens, prefill_chunk_tokens=chunk)


def _decoder_logits(decoder: Decoder, window: NDArray[np.int64]) -> NDArray[np.float32]:
    decoder.reset()
    return np.concatenate(list(decoder.logits(window)))


def _torch_logits(model: PreTrainedModel, window: NDArray[np.int64]) -> NDArray[np.float32]:
    with torch.inference_mode():
        logits: NDArray[np.float32] = model(torch.from_numpy(window)[None], use_cache=False).logits[0].numpy()
    return logits


def _torch_greedy(model: PreTrainedModel, prompt: list[int], count: int) -> tuple[list[int], list[float]]:
    """Tokens, and by how much of the largest logit each one won."""
    tokens: list[int] = []
    gaps: list[float] = []
    inputs, cache = torch.tensor([prompt]), None
    with torch.inference_mode():
        for _ in range(count):
            output: Any = model(inputs, past_key_values=cache, use_cache=True)
            last = output.logits[0, -1]
            best = torch.topk(last, 2).values
            token = int(last.argmax())
            tokens.append(token)
            gaps.append(float((best[0] - best[1]) / last.abs().max()))
            inputs, cache = torch.tensor([[token]]), output.past_key_values
    return tokens, gaps


def _compare(expected: list[NDArray[np.float32]], found: list[NDArray[np.float32]]) -> _Difference:
    largest = max(float(np.abs(left).max()) for left in expected)
    difference = max(float(np.abs(left - right).max()) for left, right in zip(expected, found, strict=True))
    agreed = counted = 0
    for left, right in zip(expected, found, strict=True):
        ordered = np.partition(left, -2, axis=1)
        clear = ordered[:, -1] - ordered[:, -2] > _NEAR_TIE * largest
        agreed += int((left.argmax(axis=1) == right.argmax(axis=1))[clear].sum())
        counted += int(clear.sum())
    return _Difference(difference / largest, agreed / counted if counted else 1.0)
