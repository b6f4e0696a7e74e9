"""What does rounding with the calibration text in view save over rounding each weight to the nearest integer?

    python tests/bench/rounding.py [--lab FOLDER] [--kernels NAME ...] [--domains NAME ...] [--tokens N] [--output FILE]

The lab model, every site under one kernel, rounded to nearest and by GPTQ; calibrated on a domain's `calib` file,
reported on its `valid` file (windows of 256 tokens, first token of a window not scored). Tables stay in float32, or are
rounded to nearest with the sites where the row says so. Prints bits-per-byte, writes JSON to tests/bench/results/, and
exits 1 where GPTQ loses more than nearest.
"""

import argparse
import dataclasses
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from msgspec.structs import replace as edit_record

from edgeprune.calibrate.capture import capture
from edgeprune.calibrate.corpus import encode, pack_windows
from edgeprune.calibrate.loss import cut_windows, measure_loss
from edgeprune.calibrate.statistics import CalibrationStats
from edgeprune.calibrate.token_bytes import token_byte_lengths
from edgeprune.compress.apply import compress_model
from edgeprune.intake.load import LoadedModel, load_model
from edgeprune.schema.events import NullProgress
from edgeprune.search.baselines import plain_recipe

HERE = Path(__file__).resolve().parent
WINDOW_TOKENS = 256
CALIBRATION_TOKENS = 16_384


def documents(path: Path) -> list[str]:
    """Texts of a file of JSON lines."""
    return [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]


def windows_of(loaded: LoadedModel, path: Path, limit_tokens: int) -> list[list[int]]:
    """The first windows of a text."""
    windows = cut_windows(encode(loaded.tokenizer, documents(path)), WINDOW_TOKENS)
    ends = torch.tensor([len(window) for window in windows]).cumsum(0)
    return windows[: int((ends <= limit_tokens).sum())]


def stats_of(loaded: LoadedModel, path: Path) -> CalibrationStats:
    """Statistics with all windows to calibrate on; rounding measures its own moments, so little is measured here."""
    windows = pack_windows(
        encode(loaded.tokenizer, documents(path)),
        separator=loaded.spec.bos_token_id,
        window_tokens=WINDOW_TOKENS,
        limit_tokens=CALIBRATION_TOKENS,
    )
    return dataclasses.replace(capture(loaded, windows[:2], gradient_tokens=0), tokens=windows)


def bits_per_byte(loaded: LoadedModel, windows: list[list[int]]) -> float:
    """On the report text."""
    nats, _ = measure_loss(loaded, windows)
    lengths = token_byte_lengths(loaded.tokenizer)
    scored = sum(int(lengths[window[1:]].sum()) for window in windows)
    return nats / scored / math.log(2.0)


def measure(lab: Path, domain: str, kernels: list[str], tokens: int) -> list[dict[str, Any]]:
    """One row a kernel, with and without tables."""
    dense = load_model(lab / "model")
    report = windows_of(dense, lab / "text" / f"{domain}.valid.jsonl", tokens)
    stats = stats_of(dense, lab / "text" / f"{domain}.calib.jsonl")
    plain = bits_per_byte(dense, report)
    rows = []
    for kernel in kernels:
        for with_tables in (False, True):
            recipe = plain_recipe(dense.spec, kernel, context_tokens=WINDOW_TOKENS, seed=0)
            recipe = recipe if with_tables else edit_record(recipe, table_kernel="fp32")
            found = {
                rounding: bits_per_byte(
                    compress_model(dense, edit_record(recipe, rounding=rounding), stats, progress=NullProgress()),
                    report,
                )
                for rounding in ("nearest", "gptq")
            }
            lost = {rounding: value - plain for rounding, value in found.items()}
            rows.append(
                {
                    "domain": domain,
                    "kernel": kernel,
                    "tables": with_tables,
                    "dense": plain,
                    **found,
                    "loss_kept_fraction": lost["gptq"] / lost["nearest"] if lost["nearest"] > 0 else None,
                }
            )
            print(line(rows[-1]), flush=True)
    return rows


def line(row: dict[str, Any]) -> str:
    """One row of the table."""
    kept = row["loss_kept_fraction"]
    return (
        f"{row['domain']:10} {row['kernel']:13} {'all' if row['tables'] else 'sites':6} {row['dense']:8.5f} "
        f"{row['nearest']:8.5f} {row['gptq']:8.5f} {'' if kept is None else f'{kept:8.0%}'}"
    )


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lab", type=Path, default=os.environ.get("EDGEPRUNE_LAB"))
    parser.add_argument("--kernels", nargs="+", default=["int4_b32_a4", "int4_b128_a4", "int8_b32_a4", "dynamic_int8"])
    parser.add_argument("--domains", nargs="+", default=["medicine", "law"])
    parser.add_argument("--tokens", type=int, default=60_000, help="Of each report text.")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "rounding.json")
    arguments = parser.parse_args()
    if arguments.lab is None or not (arguments.lab / "model").is_dir():
        print("the lab model is not here; name its folder with --lab or EDGEPRUNE_LAB", file=sys.stderr)
        return 0
    print(f"{'domain':10} {'kernel':13} {'what':6} {'dense':>8} {'nearest':>8} {'gptq':>8} {'of the loss':>8}")
    rows = [
        row for name in arguments.domains for row in measure(arguments.lab, name, arguments.kernels, arguments.tokens)
    ]
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps({"rows": rows}, indent=1, sort_keys=True) + "\n")
    # 8 bits lose so little that the sign is chance.
    worse = [row for row in rows if row["gptq"] > row["nearest"] + 2e-4]
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
