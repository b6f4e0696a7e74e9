"""What does an 8-bit key-value cache save and cost: bytes, bits-per-byte in onnxruntime, time per token?

    python tests/bench/kv.py [--lab FOLDER] [--domains NAME ...] [--tokens N] [--rounds N] [--threads N] [--output FILE]

The lab model in float32, exported with a float32 cache and with an 8-bit one whose scales come from the domain's
`calib` file; both read the `valid` file (windows of 256 tokens, first token of a window not scored) and are timed as
tests/bench/decode.py does. Prints a table, writes JSON to tests/bench/results/, exits 1 where more than 0.1 % of the
bits-per-byte is lost. Times mean nothing on a machine that does anything else.
"""

import argparse
import json
import math
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from msgspec.structs import replace as edit_record

from edgeprune.calibrate.cache_scales import cache_scales
from edgeprune.calibrate.token_bytes import token_byte_lengths
from edgeprune.export.graph import build_graph
from edgeprune.export.kv_cache import quantize_cache
from edgeprune.export.weights import write_model
from edgeprune.intake.load import LoadedModel, load_model
from edgeprune.runtime.decode import Decoder
from edgeprune.runtime.session import open_session
from edgeprune.runtime.threads import usable_core_count
from edgeprune.shapes import with_kv_bits
from tests.bench.decode import BLOCK_TOKENS, alternate, decoding, interval
from tests.bench.rounding import documents, windows_of

HERE = Path(__file__).resolve().parent
CONTEXT = 256
PROMPT_TOKENS = 128
MOST_LOSS = 0.001


def opened(loaded: LoadedModel, folder: Path, texts: list[str], bits: int, threads: int) -> Decoder:
    """A decoder of the model with that cache."""
    loaded.spec = edit_record(loaded.spec, blocks=with_kv_bits(loaded.spec.blocks, bits))
    graph = build_graph(loaded, context_tokens=CONTEXT)
    scales = cache_scales(loaded, texts, window_tokens=CONTEXT)
    if scales is not None:
        quantize_cache(graph.model.graph, scales)
    folder.mkdir()
    write_model(graph, folder)
    session = open_session(folder / "model.onnx", thread_count=threads, is_one_of_many=True)
    return Decoder(session, max_tokens=CONTEXT, prefill_chunk_tokens=128)


def nats(decoder: Decoder, windows: list[list[int]]) -> float:
    """Sum over the scored tokens."""
    total = 0.0
    for window in windows:
        decoder.reset()
        logits = np.concatenate(list(decoder.logits(window[:-1]))).astype(np.float64)
        largest = logits.max(axis=1)
        normalizer = largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1))
        total += float((normalizer - logits[np.arange(len(logits)), window[1:]]).sum())
    return total


def measure(lab: Path, domain: str, *, tokens: int, rounds: int, threads: int) -> dict[str, Any]:
    """One row."""
    loaded = load_model(lab / "model")
    windows = windows_of(loaded, lab / "text" / f"{domain}.valid.jsonl", tokens)
    lengths = token_byte_lengths(loaded.tokenizer)
    scored = sum(int(lengths[window[1:]].sum()) for window in windows)
    texts = documents(lab / "text" / f"{domain}.calib.jsonl")
    with TemporaryDirectory() as folder:
        pair = {bits: opened(loaded, Path(folder) / str(bits), texts, bits, threads) for bits in (8, 32)}
        found = {bits: nats(decoder, windows) / scored / math.log(2.0) for bits, decoder in pair.items()}
        prompt = np.asarray(windows[0][:PROMPT_TOKENS], dtype=np.int64)
        blocks = {bits: decoding(decoder, prompt) for bits, decoder in pair.items()}
        alternate(blocks[8], blocks[32], 2)  # warm
        times = np.array(alternate(blocks[8], blocks[32], rounds))
    ratio, low, high = interval(times[:, 0] / times[:, 1])
    return {
        "domain": domain,
        "cache_bytes": {str(bits): decoder.cache.size_bytes for bits, decoder in pair.items()},
        "bits_per_byte": {str(bits): value for bits, value in found.items()},
        "relative_loss": found[8] / found[32] - 1.0,
        "time_ratio": ratio,
        "time_ratio_interval": (low, high),
        "per_token_s": {"8": float(np.median(times[:, 0])) / BLOCK_TOKENS},
    }


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lab", type=Path, default=os.environ.get("EDGEPRUNE_LAB"))
    parser.add_argument("--domains", nargs="+", default=["medicine", "law"])
    parser.add_argument("--tokens", type=int, default=60_000, help="Of each report text.")
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--threads", type=int, default=usable_core_count())
    parser.add_argument("--output", type=Path, default=HERE / "results" / "kv.json")
    arguments = parser.parse_args()
    if arguments.lab is None or not (arguments.lab / "model").is_dir():
        print("the lab model is not here; name its folder with --lab or EDGEPRUNE_LAB", file=sys.stderr)
        return 0
    print(f"{'domain':10} {'cache 32':>10} {'cache 8':>10} {'bpb 32':>8} {'bpb 8':>8} {'loss':>8} {'time 8 / 32':>20}")
    rows = []
    for domain in arguments.domains:
        row = measure(
            arguments.lab, domain, tokens=arguments.tokens, rounds=arguments.rounds, threads=arguments.threads
        )
        rows.append(row)
        size, bits, (low, high) = row["cache_bytes"], row["bits_per_byte"], row["time_ratio_interval"]
        print(
            f"{domain:10} {size['32']:10} {size['8']:10} {bits['32']:8.5f} {bits['8']:8.5f} "
            f"{row['relative_loss']:8.4%} {row['time_ratio']:6.3f} [{low:.3f}, {high:.3f}]",
            flush=True,
        )
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps({"rows": rows}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return 1 if any(row["relative_loss"] > MOST_LOSS for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
