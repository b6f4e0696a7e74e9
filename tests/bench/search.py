"""What the search promises, section by section, each claim with its figure and whether it is met.

    python tests/bench/search.py [--only NAME ...] [--quick] [--output FILE]

    scaling   solve cost linear in blocks; a large program at gap 0; a whole search again within a second
    exact     three blocks: the solver's choice against every combination really built and measured
    tables    two devices with different kernel tables get different recipes, each faster on its own
    loss      predicted against measured loss, each recipe predicted from the others
    rivals    front against random search, TPE and each single technique at the same number of real evaluations
    int4      the joint search against single techniques at equal bytes, all in 4 bits
    budgets   twelve budgets: what is called feasible is met as measured, and what is allowed is used
    effort    a whole search with verification: evaluations, minutes, seconds to solve again
    choose    three models ranked as brute force over their fronts ranks them

Models: the lab model (EDGEPRUNE_LAB; its sections are left out where it is not set) and shapes without weights where
only costs matter. The calibration of the lab model is kept under EDGEPRUNE_BENCH_CACHE (default: results/cache beside
this file). `--quick` is for checking that the bench works; its figures mean nothing.
"""

import argparse
import importlib
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY))

from tests.bench.search_claims import Claims  # noqa: E402

SECTIONS = ("scaling", "exact", "tables", "loss", "rivals", "int4", "budgets", "effort", "choose")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=SECTIONS, help="this section; may be repeated")
    parser.add_argument("--quick", action="store_true", help="check that the bench works")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "search.json")
    options = parser.parse_args()
    claims = Claims()
    for name in options.only or SECTIONS:
        print(f"{name}", flush=True)
        started = time.perf_counter()
        importlib.import_module(f"tests.bench.search_{name}").run(claims, quick=options.quick)
        claims.write(options.output)
        print(f"  {name} took {time.perf_counter() - started:.0f} s", flush=True)
    missed = [claim for claim in claims.claims if not claim.is_met]
    print(f"{len(claims.claims) - len(missed)} of {len(claims.claims)} claims met")
    for claim in missed:
        print(f"  missed: {claim.section}: {claim.text}: {claim.figure} (wanted {claim.limit})")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
