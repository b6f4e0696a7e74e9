"""What closed-form repair makes good of LoRP's loss on the lab model, at 4 of 16 blocks: no training, both domains.

    python -m tests.bench.repair [--quick] [--claims] [--domain medicine]

LoRP's blocks are those its authors' code picks (`fixtures/depth.*.json`). Repairs are fitted to the domain's `calib`
text; losses are on the first 128 KiB of its `valid` text (32 KiB with `--quick`), windows of 256 tokens, documents
apart, in nats per token over the dense model's. Promised: with operators of full rank and the refit that `--repair`
switches on, half of what LoRP loses without, on all of the text. Prints a table, writes `results/repair.json`, exits
with 1 where that is missed.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from edgeprune.calibrate.capture import capture
from edgeprune.calibrate.corpus import encode, pack_windows, separator_token
from edgeprune.calibrate.documents import read_documents
from edgeprune.calibrate.loss import cut_windows, measure_loss
from edgeprune.calibrate.statistics import CalibrationStats
from edgeprune.compress.apply import compress_model
from edgeprune.intake.load import LoadedModel, load_model
from edgeprune.schema.events import NullProgress
from edgeprune.schema.recipe import Drops, Recipe, Repair

CONTEXT_TOKENS = 256
CALIBRATION_TOKENS = 98_304
"""As `edgeprune compress --repair` reads them."""
BLOCKS = 4
FULL_RANK, PROMISE = 256, 0.5
REPORT_BYTES, QUICK_BYTES = 128 * 1024, 32 * 1024
CLAIM: tuple[tuple[int | None, bool], ...] = ((None, False), (FULL_RANK, True))
"""Rows of the promise, read on all text; first of all."""
ROWS: tuple[tuple[int | None, bool], ...] = (
    *CLAIM, (32, False), (128, False), (FULL_RANK, False), (None, True), (32, True), (128, True),
)  # fmt: skip
"""Rank of the operators, and whether output projections are solved for again after them."""


def main() -> int:
    """Measure all rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--claims", action="store_true", help="the rows of the promise alone")
    parser.add_argument("--domain", choices=("medicine", "law"), action="append")
    arguments = parser.parse_args()
    lab = Path(os.environ.get("EDGEPRUNE_LAB", ""))
    if not (lab / "model").is_dir():
        print("EDGEPRUNE_LAB must name the folder of the lab model.", file=sys.stderr)
        return 2
    loaded = load_model(lab / "model")
    limit = QUICK_BYTES if arguments.quick else REPORT_BYTES
    results: list[dict[str, Any]] = []
    judged: list[tuple[str, float]] = []
    path = Path(__file__).parent / "results" / "repair.json"
    path.parent.mkdir(exist_ok=True)
    print("domain    dropped        rank  refit   parameters   loss added   of LoRP's   on all text")
    for domain in arguments.domain or ("medicine", "law"):
        blocks = tuple(json.loads((lab / f"fixtures/depth.{domain}.json").read_text())["lorp"][str(BLOCKS)])
        bare: tuple[float, float | None] | None = None
        for rank, refit, kept, added, added_all in _rows(loaded, lab, domain, tuple(sorted(blocks)), limit, arguments):
            bare = bare or (added, added_all)
            share_all = None if added_all is None or bare[1] is None else added_all / bare[1]
            row = {"domain": domain, "blocks": blocks, "rank": rank, "refit": refit, "kept": kept}
            row |= {"report_bytes": limit, "loss_nats": added, "of_lorp": added / bare[0]}
            results.append(row | {"loss_nats_all": added_all, "of_lorp_all": share_all})
            path.write_text(json.dumps(results, indent=2) + "\n")
            print(
                f"{domain:<9} {' '.join(map(str, sorted(blocks))):<12} {rank or '-':>6}  {'yes' if refit else 'no':>5}"
                f"   {kept:>9.1%}    {added:>9.4f}   {added / bare[0]:>9.3f}   "
                + ("-" if share_all is None else f"{added_all:.4f}, {share_all:.3f}"),
                flush=True,
            )
            if (rank, refit) == CLAIM[1]:
                judged.append((domain, added / bare[0] if share_all is None else share_all))
    for domain, share in judged:
        print(f"{'met   ' if share <= PROMISE else 'MISSED'} {domain}: {share:.3f} of LoRP's loss")
    return 0 if judged and all(share <= PROMISE for _, share in judged) else 1


def _rows(
    loaded: LoadedModel, lab: Path, domain: str, blocks: tuple[int, ...], limit: int, arguments: argparse.Namespace
) -> Iterator[tuple[int | None, bool, float, float, float | None]]:
    """Rank, refit, kept parameters, loss added on the first of the text, and on all of it where the row is promised."""
    stats = _stats(loaded, lab / f"text/{domain}.calib.jsonl")
    first, rest, size = [], [], 0
    for document in read_documents((lab / f"text/{domain}.valid.jsonl",), render=str):
        (first if size < limit else rest).append(document)
        size += len(document.encode())
    windows, others = (cut_windows(encode(loaded.tokenizer, part), CONTEXT_TOKENS) for part in (first, rest))
    nats, scored = measure_loss(loaded, windows)
    nats_rest, scored_rest = (0.0, 0) if arguments.quick else measure_loss(loaded, others)
    for rank, refit in CLAIM if arguments.claims else ROWS:
        repairs = Drops(blocks=blocks).repaired(rank).repairs
        recipe = Recipe(
            model_hash=loaded.spec.model_hash,
            context_tokens=CONTEXT_TOKENS,
            drop_blocks=blocks,
            repairs=tuple(Repair(block=block, rank=each) for block, each in repairs),
            refit=refit,
        )
        model = compress_model(loaded, recipe, stats, progress=NullProgress())
        kept = model.spec.parameter_count / loaded.spec.parameter_count
        added = measure_loss(model, windows)[0] - nats
        added_all: float | None = None
        if (rank, refit) in CLAIM and not arguments.quick:
            added_all = (added + measure_loss(model, others)[0] - nats_rest) / (scored + scored_rest)
        yield rank, refit, kept, added / scored, added_all


def _stats(loaded: LoadedModel, path: Path) -> CalibrationStats:
    """Windows of the whole calibration text, which is all that repair and refit read; the moments are of a few."""
    documents = encode(loaded.tokenizer, list(read_documents((path,), render=str)))
    windows = pack_windows(
        documents,
        separator=separator_token(loaded.spec),
        window_tokens=CONTEXT_TOKENS,
        limit_tokens=CALIBRATION_TOKENS,
    )
    return replace(capture(loaded, windows[:2], gradient_tokens=0), tokens=windows)


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    sys.exit(main())
