"""Does our memory bandwidth agree with an independently written C loop of the STREAM kind?

    python tests/bench/bandwidth.py [--output FILE] [--rounds N] [--threads N]

Compiles `stream.c` beside this file with the C compiler that is there, then measures four array sizes, with one and
with all threads, in turns with ours in one run: a busy moment hits both. Compared are the best figures. Prints a
table, writes JSON to tests/bench/results/, and exits 1 when a ratio is off by more than 10 %; 0 where there is no
compiler, which it says.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from edgeprune.profile.bandwidth import measure_point
from edgeprune.profile.conditions import read_conditions
from edgeprune.profile.host import read_cpu
from edgeprune.profile.limits import read_memory_info

HERE = Path(__file__).resolve().parent
SIZES = (8 << 20, 32 << 20, 64 << 20, 128 << 20)
TOLERANCE = 0.10
SAMPLE_COUNT = 7


def compile_stream(folder: Path) -> Path | None:
    """The compiled loop, or None without a compiler."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    program = folder / "stream"
    command = [compiler, "-O3", "-march=native", "-pthread", str(HERE / "stream.c"), "-o", str(program)]
    subprocess.run(command, check=True)
    return program


def run_stream(program: Path, array_bytes: int, thread_count: int) -> dict[str, float]:
    """Bytes per second of the C loop."""
    command = [str(program), str(array_bytes), str(thread_count), str(SAMPLE_COUNT)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {str(name): float(value) for name, value in json.loads(answer).items()}


def compare(program: Path, array_bytes: int, thread_count: int, rounds: int) -> dict[str, Any]:
    """Best of both over some rounds in turns, and their ratios."""
    ours: dict[str, float] = {"read": 0.0, "triad": 0.0}
    theirs: dict[str, float] = {"read": 0.0, "triad": 0.0}
    for _ in range(rounds):
        point = measure_point(array_bytes, thread_count=thread_count, sample_count=SAMPLE_COUNT)
        ours["read"] = max(ours["read"], point.read_best_bytes_per_s or 0.0)
        ours["triad"] = max(ours["triad"], point.triad_best_bytes_per_s or 0.0)
        answer = run_stream(program, array_bytes, thread_count)
        for kind in theirs:
            theirs[kind] = max(theirs[kind], answer[f"{kind}_best"])
    ratios = {kind: ours[kind] / theirs[kind] for kind in ours}
    return {
        "array_bytes": array_bytes,
        "thread_count": thread_count,
        "ours_bytes_per_s": ours,
        "stream_bytes_per_s": theirs,
        "ratio": ratios,
        "agrees": all(abs(ratio - 1.0) <= TOLERANCE for ratio in ratios.values()),
    }


def main() -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=HERE / "results" / "bandwidth.json")
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--threads", type=int, default=read_cpu().usable_core_count or 1)
    arguments = parser.parse_args()
    usable = read_memory_info().usable_bytes
    sizes = [size for size in SIZES if usable is None or 3 * size <= usable // 8]
    with tempfile.TemporaryDirectory() as folder:
        program = compile_stream(Path(folder))
        if program is None:
            print("no C compiler (cc, gcc or clang): nothing compared")
            return 0
        rows = [
            compare(program, size, threads, arguments.rounds)
            for threads in dict.fromkeys((1, arguments.threads))
            for size in sizes
        ]
    print(f"{'array':>8} {'threads':>7} {'read GB/s':>20} {'ratio':>6} {'triad GB/s':>20} {'ratio':>6}")
    for row in rows:
        figures = [f"{row['array_bytes'] >> 20:>4} MiB {row['thread_count']:>7}"]
        for kind in ("read", "triad"):
            both = f"{row['ours_bytes_per_s'][kind] / 1e9:.1f} / {row['stream_bytes_per_s'][kind] / 1e9:.1f}"
            figures.append(f"{both:>20} {row['ratio'][kind]:>6.2f}")
        print(" ".join(figures), "" if row["agrees"] else "  off by more than 10 %")
    conditions = read_conditions()
    result = {"cpu": read_cpu().model, "load_1min": conditions.load_1min, "tolerance": TOLERANCE, "rows": rows}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0 if all(row["agrees"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
