"""How fast a bundle is, ratio by ratio: all timing figures of the exporter.

    python tests/bench/decode.py [--only SECTION ...] [--rounds N] [--threads N] [--quick] [--output FILE]

    same      same weights and precision: per-token and prefill time / the graphs of genai's builder and optimum-onnx
    kernels   per-token time / the sum of its kernels' own times, as the device profile measures them
    choice    kernels chosen freely from the measured table: the lab model / genai's int4 and int8
    half      half of the linear parameters gone by rank, channels or depth: time / dense, against bytes read
    roofline  bytes read per token in float32 / the bandwidth of an array of that size

The rule of every ratio is in `decode_rounds`. The graphs are made once and kept under EDGEPRUNE_BENCH_CACHE (default:
results/cache beside this file); the choice of kernels needs EDGEPRUNE_LAB and is left out without it. Prints a table,
writes JSON to tests/bench/results/, exits 1 where a ratio is not met. Timings mean nothing on a machine that does
anything else; `--quick` only shows that the bench works.
"""

import argparse
import importlib
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from edgeprune.profile.conditions import read_conditions
from edgeprune.profile.host import read_cpu
from edgeprune.runtime.threads import usable_core_count
from tests.bench.decode_rounds import Bench

HERE = Path(__file__).resolve().parent
SECTIONS = ("same", "kernels", "choice", "half", "roofline")


def main() -> int:
    """Build, time, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=SECTIONS, help="this section; may be repeated")
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--threads", type=int, default=usable_core_count())
    parser.add_argument("--quick", action="store_true", help="a tiny model: shows that the bench works")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "decode.json")
    arguments = parser.parse_args()
    cache = Path(os.environ.get("EDGEPRUNE_BENCH_CACHE", HERE / "results" / "cache")) / "decode"
    bench = Bench(
        cache=cache,
        rounds=arguments.rounds,
        threads=arguments.threads,
        quick=arguments.quick,
        output=arguments.output,
        conditions={"cpu": read_cpu().model, "conditions_before": str(read_conditions())},
    )
    for name in arguments.only or SECTIONS:
        if name == "choice" and "EDGEPRUNE_LAB" not in os.environ:
            print("choice is left out: set EDGEPRUNE_LAB to the lab's folder", flush=True)
            continue
        print(name, flush=True)
        started = time.perf_counter()
        importlib.import_module(f"tests.bench.decode_{name}").run(bench)
        print(f"  {name} took {time.perf_counter() - started:.0f} s", flush=True)
    print(f"{sum(row['met'] for row in bench.rows)} of {len(bench.rows)} figures met")
    return 0 if bench.rows and all(row["met"] for row in bench.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
