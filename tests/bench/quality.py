"""What each technique costs in quality at each size, on the lab model; the claims that rest on it.

    python tests/bench/quality.py [--only quality|speed|table] [--technique T ...] [--kept F ...] [--domain D ...]
                                  [--full] [--no-claims] [--quick]

One row a technique, fraction of the parameters kept and domain: bundle bytes and ms per token (exported, decoded
without torch), bits-per-byte on the domain, the other domain and general text, accuracy with its 95 % interval. Rows
read the first 128 KiB of each report text and 200 questions, with `--full` all of them; a claim rests on rows that read
all of the domain's text. No technique trains here. The lab (EDGEPRUNE_LAB) is needed.

Finished rows are kept under EDGEPRUNE_BENCH_CACHE (default: results/cache beside this file), so a bench that was
stopped goes on with the next row, and one that is spread over days makes no row twice. `--only quality` makes all but
the speed, which does not depend on what else the machine does; `--only speed` then times the rows that are there and
wants the machine for itself; `--only table` shows and judges what is there. A row is made again where the code it rests
on has changed; with `EDGEPRUNE_BENCH_KEEP=1` it is taken. `--claims halves` makes the rows of the claims on single
techniques alone. `--quick` checks that the bench works. Exits with 1 when a claim is missed.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY))

from edgeprune.pipeline.single import technique_names  # noqa: E402
from tests.bench.quality_claims import JOINT, VARIANTS, judge_halves, judge_joint, rise  # noqa: E402
from tests.bench.quality_lab import DOMAINS, Domain, open_domain  # noqa: E402
from tests.bench.quality_measure import CLAIM, FULL, PART, QUICK, Amount  # noqa: E402
from tests.bench.quality_rows import DENSE, ONLY, Row, make_row  # noqa: E402
from tests.bench.search_claims import Claims  # noqa: E402
from tests.bench.search_lab import lab_folder  # noqa: E402

KEPT = (0.9, 0.8, 0.7, 0.6, 0.5, 0.35)
RIVALS = 2
"""Single techniques read in full at each fraction: those with the least loss on part of the text."""


def main() -> int:
    """Make what is missing, show, judge."""
    names = technique_names()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=ONLY, help="this pass alone; without it quality, then speed")
    parser.add_argument("--technique", action="append", choices=names, help="this one alone; may be repeated")
    parser.add_argument("--kept", action="append", type=float, help="this fraction alone; may be repeated")
    parser.add_argument("--domain", action="append", choices=DOMAINS, help="this domain alone; may be repeated")
    parser.add_argument("--full", action="store_true", help="every row reads all of the report texts")
    parser.add_argument("--no-claims", action="store_true", help="the table alone")
    parser.add_argument("--claims", choices=("all", "halves"), default="all", help="halves: of single techniques alone")
    parser.add_argument("--quick", action="store_true", help="check that the bench works")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "quality.json")
    options = parser.parse_args()
    lab = lab_folder()
    if lab is None:
        print("EDGEPRUNE_LAB is not set; this bench is about the lab model alone.")
        return 1
    techniques = options.technique or list(names)
    fractions = options.kept or ([0.8] if options.quick else KEPT)
    part = QUICK if options.quick else FULL if options.full else PART
    claimed = QUICK if options.quick else CLAIM
    claims = Claims()
    for name in options.domain or (DOMAINS[:1] if options.quick else DOMAINS):
        domain = open_domain(lab, name)
        asked = [(DENSE, 1.0)]
        if options.claims == "all":
            asked += [(technique, kept) for kept in fractions for technique in techniques]
        passes = ("quality", "speed") if options.only is None else (options.only,)
        for only in passes:
            rows = [make_row(domain, technique, kept, amount=part, only=only) for technique, kept in asked]
        claims.keep(name, [_cells(row, rows[0]) for row in rows])
        claims.write(options.output)
        if not options.no_claims:
            _judge(claims, domain, rows[1:], claimed, "quality" if "quality" in passes else "table")
        claims.write(options.output)
    missed = [claim for claim in claims.claims if not claim.is_met]
    print(f"{len(claims.claims) - len(missed)} of {len(claims.claims)} claims met")
    for claim in missed:
        print(f"  missed: {claim.section}: {claim.text}: {claim.figure} (wanted {claim.limit})")
    return 1 if missed else 0


def _judge(claims: Claims, domain: Domain, rows: Sequence[Row], amount: Amount, only: str) -> None:
    """The rows claims rest on, all text read: the joint ones and, at each fraction, the singles that come nearest."""
    dense = make_row(domain, DENSE, 1.0, amount=amount, only=only)
    judged: list[Row] = []
    for kept in dict.fromkeys(row.kept for row in rows):
        here = [row for row in rows if row.kept == kept and row.quality is not None]
        singles = sorted((row for row in here if row.technique != JOINT), key=lambda row: row.domain_bits)
        wanted = [*(row for row in here if row.technique == JOINT), *singles[:RIVALS]]
        judged += [make_row(domain, row.technique, row.kept, amount=amount, only=only) for row in wanted]
    if any(row.technique == JOINT for row in rows):
        judge_joint(claims, domain.name, judged, dense)

    def variant(name: str) -> Row:
        technique, recipe = VARIANTS[name]
        row = make_row(
            domain,
            technique,
            1.0,
            amount=amount,
            only=only,
            recipe=lambda: recipe(domain),
            stats=domain.repair_stats if technique == "lorp" else None,
            variant=name,
        )
        judged.append(row)
        return row

    judge_halves(claims, domain.name, variant, dense)
    claims.keep(f"{domain.name}, all text", [_cells(row, dense) for row in (dense, *judged)])


def _cells(row: Row, dense: Row) -> dict[str, object]:
    quality, speed = row.quality, row.speed
    return {
        "technique": row.variant or row.technique,
        "kept": row.kept,
        "reached": None if row.kept_fraction is None else round(row.kept_fraction, 4),
        "bundle_bytes": None if speed is None else speed.bundle_bytes,
        "ms_per_token": None if speed is None else round(1e3 * speed.token_s, 3),
        "domain_bits": None if quality is None else round(quality.domain_bits, 5),
        "rise": None if quality is None or dense.quality is None else f"{rise(row, dense):+.2%}",
        "other_bits": None if quality is None else _round(quality.other_bits, 5),
        "general_bits": None if quality is None else _round(quality.general_bits, 5),
        "accuracy": None if quality is None else _round(quality.accuracy, 4),
        "interval": ""
        if quality is None or quality.accuracy is None
        else f"{quality.accuracy_low:.3f}..{quality.accuracy_high:.3f}",
        "full": row.is_full,
        "seconds": row.seconds,
        "refusal": row.refusal or "",
    }


def _round(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


if __name__ == "__main__":
    sys.exit(main())
