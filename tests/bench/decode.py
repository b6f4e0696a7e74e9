"""Is our graph as fast as that of onnxruntime-genai's own model builder, for the same weights and precision?

    python tests/bench/decode.py [--output FILE] [--rounds N] [--threads N] [--size full|tiny] [--precisions NAME ...]

A random Llama of 125 million parameters (12 blocks, 768 wide, FFN 2048, 32,000 tokens, 4 of 12 KV heads) is written
once and exported by both, in float32 and in int4 (block 32, accuracy level 4). Both graphs are loaded in one process
with equal threads and run by the same loop. A round is 32 tokens decoded after a prompt of 128 by one, then by the
other, the order reversed in the next; the figure is the median of the rounds' ratios (ours / theirs) with its bootstrap
95 % interval. A prefill is timed the same way, one prompt a round. A ratio is met where the median is within the limit
and the upper end within the limit + 0.03.

Same precision: every site and the head. The builder leaves the embedding in float32, ours is in int4 too: one look-up a
token. In float32 the logits of both are compared first. Prints a table, writes JSON to tests/bench/results/, exits 1
where a ratio is not met. Timings mean nothing on a machine that does anything else.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from transformers import LlamaConfig, LlamaForCausalLM

from edgeprune.calibrate.capture import capture
from edgeprune.compress.apply import compress_model
from edgeprune.export.graph import build_graph
from edgeprune.export.weights import write_model
from edgeprune.intake.load import load_model
from edgeprune.profile.conditions import read_conditions
from edgeprune.profile.host import read_cpu
from edgeprune.runtime.decode import Decoder
from edgeprune.runtime.session import open_session
from edgeprune.runtime.threads import usable_core_count
from edgeprune.schema.events import NullProgress
from edgeprune.search.baselines import plain_recipe
from tests.tiny import tiny_tokenizer_json

HERE = Path(__file__).resolve().parent
KERNELS = {"fp32": "fp32", "int4": "int4_b32_a4"}
LIMITS = {("decode", "fp32"): 1.02, ("decode", "int4"): 1.00, ("prefill", "fp32"): 1.02, ("prefill", "int4"): 1.02}
MARGIN = 0.03
BLOCK_TOKENS = 32
PROMPT_TOKENS = 128
PREFILLS = (128, 512)
CHUNK_TOKENS = 512
RESAMPLES = 10_000


@dataclass(frozen=True)
class Size:
    """Shapes of the random model."""

    hidden: int
    inner: int
    blocks: int
    vocabulary: int
    heads: int
    kv_heads: int


SIZES = {
    "full": Size(hidden=768, inner=2048, blocks=12, vocabulary=32_000, heads=12, kv_heads=4),
    "tiny": Size(hidden=64, inner=128, blocks=2, vocabulary=512, heads=4, kv_heads=2),
}
CONTEXT = max(*PREFILLS, PROMPT_TOKENS + BLOCK_TOKENS) + 1


def write_source(folder: Path, size: Size) -> None:
    """A random Llama in Hugging Face layout."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=size.vocabulary, hidden_size=size.hidden, intermediate_size=size.inner,
        num_hidden_layers=size.blocks, num_attention_heads=size.heads, num_key_value_heads=size.kv_heads,
        max_position_embeddings=1024, tie_word_embeddings=False, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tiny_tokenizer_json(), encoding="utf-8")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def build_theirs(source: Path, folder: Path, precision: str, size: Size) -> None:
    """The builder's graph; its key-value inputs get the head size it leaves open, which changes nothing else."""
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", str(source), "-o", str(folder)]
    command += ["-p", precision, "-e", "cpu"]
    if precision == "int4":
        command += ["--extra_options", "int4_block_size=32", "int4_accuracy_level=4"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    path = folder / "model.onnx"
    model = onnx.load(path, load_external_data=False)
    for entry in (*model.graph.input, *model.graph.output):
        if entry.name.startswith(("past_key_values.", "present.")):
            entry.type.tensor_type.shape.dim[3].ClearField("dim_param")
            entry.type.tensor_type.shape.dim[3].dim_value = size.hidden // size.heads
    path.write_bytes(model.SerializeToString())


def build_ours(source: Path, folder: Path, precision: str) -> None:
    """Our graph of the same weights, rounded to nearest as the builder does."""
    dense = load_model(source)
    recipe = plain_recipe(dense.spec, KERNELS[precision], context_tokens=CONTEXT, seed=0)
    stats = capture(dense, torch.zeros(1, 8, dtype=torch.int32), gradient_tokens=0)
    loaded = dense if precision == "fp32" else compress_model(dense, recipe, stats, progress=NullProgress())
    folder.mkdir(parents=True)
    write_model(build_graph(loaded, context_tokens=CONTEXT), folder)


def prepare(cache: Path, name: str, precisions: list[str]) -> dict[tuple[str, str], Path]:
    """(side, precision) -> folder of the graph, made where it is not there yet."""
    size, source = SIZES[name], cache / name / "source"
    if not (source / "tokenizer_config.json").is_file():
        source.mkdir(parents=True, exist_ok=True)
        write_source(source, size)
    folders = {}
    for precision in precisions:
        for side in ("ours", "theirs"):
            folder = cache / name / f"{side}-{precision}"
            partial = folder.with_name(f".{folder.name}-{os.getpid()}")
            if not folder.is_dir():
                if side == "ours":
                    build_ours(source, partial, precision)
                else:
                    build_theirs(source, partial, precision, size)
                partial.rename(folder)
            folders[side, precision] = folder
    return folders


def opened(folder: Path, threads: int) -> Decoder:
    """A decoder whose workers rest while the other one is timed."""
    session = open_session(folder / "model.onnx", thread_count=threads, is_one_of_many=True)
    return Decoder(session, max_tokens=CONTEXT, prefill_chunk_tokens=CHUNK_TOKENS)


def alternate(ours: Callable[[], None], theirs: Callable[[], None], rounds: int) -> list[tuple[float, float]]:
    """Seconds of both in each round; the order is reversed every round."""
    found = []
    for number in range(rounds):
        times = {}
        for side in (("ours", "theirs"), ("theirs", "ours"))[number % 2]:
            start = time.perf_counter()
            (ours if side == "ours" else theirs)()
            times[side] = time.perf_counter() - start
        found.append((times["ours"], times["theirs"]))
    return found


def interval(ratios: NDArray[np.float64]) -> tuple[float, float, float]:
    """Median of the ratios, and the ends of its bootstrap 95 % interval."""
    drawn = np.random.default_rng(0).choice(ratios, (RESAMPLES, len(ratios)))
    low, high = np.percentile(np.median(drawn, axis=1), (2.5, 97.5))
    return float(np.median(ratios)), float(low), float(high)


def decoding(decoder: Decoder, prompt: NDArray[np.int64]) -> Callable[[], None]:
    """A block of greedy tokens after the prompt, which stays in the cache."""
    decoder.reset()
    first = int(decoder.prefill(prompt).argmax())

    def block() -> None:
        decoder.rewind(len(prompt))
        token = first
        for _ in range(BLOCK_TOKENS):
            token = int(decoder.step(token).argmax())

    return block


def prefilling(decoder: Decoder, prompt: NDArray[np.int64]) -> Callable[[], None]:
    """The prompt, from nothing."""

    def whole() -> None:
        decoder.reset()
        decoder.prefill(prompt)

    return whole


def measure(
    folders: dict[tuple[str, str], Path], precision: str, *, rounds: int, threads: int, vocabulary: int
) -> list[dict[str, Any]]:
    """Rows of one precision."""
    ours, theirs = (opened(folders[side, precision], threads) for side in ("ours", "theirs"))
    tokens = np.random.default_rng(0).integers(0, vocabulary, max(PREFILLS), dtype=np.int64)
    difference = None
    if precision == "fp32":
        pair = [decoder.prefill(tokens[:PROMPT_TOKENS]) for decoder in (ours, theirs)]
        difference = float(np.abs(pair[0] - pair[1]).max() / np.abs(pair[1]).max())
        if difference > 1e-3:
            raise SystemExit(f"the two graphs differ by {difference:.1e} of the largest logit: not the same model")
    prompt = tokens[:PROMPT_TOKENS]
    # Decoding comes first: it goes on from the prompt that making it has left in the caches.
    cases = [("decode", BLOCK_TOKENS, decoding(ours, prompt), decoding(theirs, prompt))]
    cases += [("prefill", n, prefilling(ours, tokens[:n]), prefilling(theirs, tokens[:n])) for n in PREFILLS]
    rows = []
    for what, count, mine, other in cases:
        alternate(mine, other, 2)  # warm
        times = np.array(alternate(mine, other, rounds))
        ratio, low, high = interval(times[:, 0] / times[:, 1])
        limit = LIMITS[what, precision]
        row = {
            "what": what if what == "decode" else f"prefill {count}",
            "precision": precision,
            "ours_s": float(np.median(times[:, 0])) / (count if what == "decode" else 1),
            "theirs_s": float(np.median(times[:, 1])) / (count if what == "decode" else 1),
            "ratio": ratio,
            "ratio_low": low,
            "ratio_high": high,
            "limit": limit,
            "met": bool(ratio <= limit and high <= limit + MARGIN),
            "rounds": rounds,
            "logit_difference": difference,
        }
        rows.append(row)
        print(line(row), flush=True)
    return rows


def line(row: dict[str, Any]) -> str:
    """One row of the table."""
    return (
        f"{row['what']:12} {row['precision']:5} {1e3 * row['ours_s']:10.3f} {1e3 * row['theirs_s']:10.3f} "
        f"{row['ratio']:6.3f} [{row['ratio_low']:.3f}, {row['ratio_high']:.3f}] {row['limit']:6.2f} "
        f"{'met' if row['met'] else 'not met'}"
    )


def main() -> int:
    """Build, time, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "decode.json")
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--threads", type=int, default=usable_core_count())
    parser.add_argument("--size", choices=sorted(SIZES), default="full")
    parser.add_argument("--precisions", nargs="+", choices=sorted(KERNELS), default=list(KERNELS))
    arguments = parser.parse_args()
    cache = Path(os.environ.get("EDGEPRUNE_BENCH_CACHE", HERE / "results" / "cache")) / "decode"
    folders = prepare(cache, arguments.size, arguments.precisions)
    before = read_conditions()
    print(f"{'':12} {'':5} {'ours ms':>10} {'theirs ms':>10} {'ratio':>6} {'95 % interval':16} {'limit':>6}")
    rows: list[dict[str, Any]] = []
    for precision in arguments.precisions:
        vocabulary = SIZES[arguments.size].vocabulary
        rows += measure(folders, precision, rounds=arguments.rounds, threads=arguments.threads, vocabulary=vocabulary)
    result = {
        "cpu": read_cpu().model,
        "threads": arguments.threads,
        "size": arguments.size,
        "conditions_before": str(before),
        "conditions_after": str(read_conditions()),
        "rows": rows,
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return 0 if all(row["met"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
