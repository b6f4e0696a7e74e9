"""What huge pages bring: one token's products from memory, sessions with and without them, in processes in turns.

    python tests/bench/huge_pages.py [--threads N ...] [--rounds N] [--output FILE]

Each process opens eight sessions of one chain (64 of 512 x 512 in float32, 67 MB) and times
them in turns; the figure of a session is the lower quartile. Processes with and without alternate, the order reversed
each round. Reported: the median of the sessions, the spread between the fastest and the slowest session of a process,
and the ratio of medians of each round. Prints a table, writes JSON, exits 1 where huge pages are not faster. Times mean
nothing on a machine that does anything else.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from edgeprune.profile.bound_graph import BoundGraph  # noqa: E402
from edgeprune.profile.rounds import quiet_times  # noqa: E402
from edgeprune.runtime import session  # noqa: E402
from edgeprune.runtime.huge_pages import huge_page_bytes  # noqa: E402
from edgeprune.runtime.probe_graph_sites import site_chain  # noqa: E402

SESSIONS = 8
SITES = 64
SAMPLES = 21


def work(mode: str, threads: int) -> None:
    """Times of the sessions of one process, as JSON."""
    if mode == "without":
        session.hold_in_huge_pages = lambda **_: None
    bound = []
    for _ in range(SESSIONS):
        bound.append(
            BoundGraph(site_chain("fp32", in_features=512, out_features=512, site_count=SITES), thread_count=threads)
        )
        bound[-1].bind_rows(1)
    print(json.dumps({"times_s": quiet_times(bound, round_count=SAMPLES), "huge_page_bytes": huge_page_bytes()}))


def main() -> int:
    """Alternate, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", action="append", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "huge_pages.json")
    options = parser.parse_args()
    rows = []
    for threads in options.threads or [1, 2]:
        found: dict[str, list[list[float]]] = {"with": [], "without": []}
        for number in range(options.rounds):
            for mode in ("with", "without") if number % 2 else ("without", "with"):
                command = [sys.executable, str(Path(__file__)), "--work", mode, str(threads)]
                made = subprocess.run(command, capture_output=True, text=True, check=True)
                found[mode].append(json.loads(made.stdout)["times_s"])
        ratios = [
            statistics.median(a) / statistics.median(b) for a, b in zip(found["with"], found["without"], strict=True)
        ]
        row: dict[str, object] = {"threads": threads, "ratio": statistics.median(ratios), "ratios": ratios}
        for mode, processes in found.items():
            row[f"{mode}_s"] = statistics.median(statistics.median(times) for times in processes)
            row[f"{mode}_spread"] = statistics.median(max(times) / min(times) - 1.0 for times in processes)
        rows.append(row)
        print(
            f"{threads} threads: with {row['with_s'] * 1e3:.2f} ms (sessions differ by {row['with_spread']:.0%}), "  # type: ignore[operator]
            f"without {row['without_s'] * 1e3:.2f} ms ({row['without_spread']:.0%}), ratio {row['ratio']:.3f} "  # type: ignore[operator]
            f"({min(ratios):.3f} to {max(ratios):.3f})",
            flush=True,
        )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return 0 if all(float(str(row["ratio"])) < 1.0 for row in rows) else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(sys.argv[2], int(sys.argv[3]))
    else:
        sys.exit(main())
