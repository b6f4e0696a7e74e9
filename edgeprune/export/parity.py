"""Does the bundle compute what the torch model computes? Logits, most likely tokens and a greedy continuation.

Torch of the compressed model holds the dequantised weights, so it is the oracle for every kernel. What remains are the
kernels' own liberties: float32 sums in another order, and activations rounded to int8 at accuracy level 4. The second
is large, and would hide a wrong graph; therefore a graph with such kernels is run a second time with accuracy level 0,
where only packing and wiring can differ.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from edgeprune.errors import ParityError
from edgeprune.export.weights import GRAPH_FILE
from edgeprune.intake.load import LoadedModel
from edgeprune.runtime.decode import Decoder
from edgeprune.runtime.generate import greedy
from edgeprune.runtime.session import open_session
from edgeprune.runtime.threads import usable_core_count
from edgeprune.schema.budget import Workload
from edgeprune.schema.bundle import ParityRecord
from edgeprune.schema.kernel import parse_kernel
from edgeprune.schema.model import ModelSpec

__all__ = ["EXACT_TOLERANCE", "GREEDY_TOKENS", "TOLERANCES", "check_parity", "tolerance_of"]

logger = logging.getLogger(__name__)

EXACT_TOLERANCE = 1e-4
"""Float32 sums in another order: 2e-6 was the largest seen on 2-block models of every family; depth adds to it."""

TOLERANCES = {
    "float": (EXACT_TOLERANCE, "float32 sums in another order"),
    "level 0": (EXACT_TOLERANCE, "the same: weights are equal bit by bit, activations are float32"),
    "level 2": (2e-2, "activations rounded to float16 or bfloat16"),
    "level 4": (2e-1, "activations rounded to int8 in every block of weights"),
    "dynamic": (3e-1, "activations of all tokens rounded to uint8 with one scale"),
}
"""Largest allowed difference of logits, as a share of the largest logit, by what a kernel does to activations."""

GREEDY_TOKENS = 32

_PROMPT_TOKENS = 16
_WINDOW_TOKENS = 96
_WINDOW_COUNT = 4

_NEAR_TIE = 1e-3
"""Two tokens whose logits differ by less than this share of the largest logit may swap places."""


@dataclass(frozen=True)
class _Difference:
    largest: float
    agreement: float


def tolerance_of(spec: ModelSpec) -> tuple[float, str]:
    """The widest tolerance among the kernels of a model, and its reason."""
    return max(TOLERANCES[kind] for kind in _kinds(spec))


def check_parity(loaded: LoadedModel, folder: Path, *, tokens: Sequence[int], workload: Workload) -> ParityRecord:
    """Compare torch and onnxruntime on a text.

    Args:
        loaded: the compressed model.
        folder: holds the graph and its weights.
        tokens: what to compare on; at least two.
        workload: context and prompt pieces as on the device.

    Raises:
        ParityError: logits differ by more than the kernels explain, or the text they continue with does.
    """
    windows = _windows(tokens, min(_WINDOW_TOKENS, workload.context_tokens))
    expected = [_torch_logits(loaded.model, window) for window in windows]
    decoder = _open(folder / GRAPH_FILE, workload)
    found = [_decoder_logits(decoder, window) for window in windows]
    tolerance, reason = tolerance_of(loaded.spec)
    difference = _compare(expected, found)
    exact = None
    if _rounds_activations(loaded.spec):
        exact = _compare(expected, _exact_logits(folder, windows, workload)).largest
        if not exact <= EXACT_TOLERANCE:
            raise ParityError(
                f"With float32 activations the graph's logits differ from torch's by {exact:.2e} of the largest, "
                f"allowed are {EXACT_TOLERANCE:.0e}; the graph or its packed weights are wrong, report this model."
            )
    if not difference.largest <= tolerance:
        raise ParityError(
            f"The graph's logits differ from torch's by {difference.largest:.2e} of the largest, allowed are "
            f"{tolerance:.0e} ({reason}); export with another kernel, or report this model."
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
    count = min(GREEDY_TOKENS, workload.context_tokens - len(prompt))
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


def _kinds(spec: ModelSpec) -> set[str]:
    kernels = {site.kernel for block in spec.blocks for site in block.sites} | {spec.table_kernel}
    return {_kind(kernel) for kernel in kernels}


def _rounds_activations(spec: ModelSpec) -> bool:
    """Whether a second, exact run says more: some kernel rounds activations, and all that do can be told not to."""
    kinds = _kinds(spec)
    return "dynamic" not in kinds and bool(kinds & {"level 2", "level 4"})


def _kind(kernel: str) -> str:
    parsed = parse_kernel(kernel)
    if parsed.kind == "float":
        return "float"
    if parsed.kind == "dynamic_int8":
        return "dynamic"
    level = parsed.accuracy_level or 0
    return "level 0" if level <= 1 else "level 2" if level <= 3 else "level 4"


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


def _exact_logits(folder: Path, windows: list[NDArray[np.int64]], workload: Workload) -> list[NDArray[np.float32]]:
    """Logits of the same graph with accuracy level 0 everywhere."""
    model = ir.load(folder / GRAPH_FILE)
    for node in model.graph:
        if node.op_type == "MatMulNBits":
            node.attributes["accuracy_level"] = ir.AttrInt64("accuracy_level", 0)
    path = folder / f"exact-{GRAPH_FILE}"
    try:
        path.write_bytes(ir.to_proto(model).SerializeToString())
        decoder = _open(path, workload)
        return [_decoder_logits(decoder, window) for window in windows]
    finally:
        path.unlink(missing_ok=True)
