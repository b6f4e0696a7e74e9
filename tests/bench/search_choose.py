"""`choose`: three models under the same limits, ranked as brute force over their fronts ranks them.

Three small models of different depth and width, trained a little on the lab's medical text. Brute force lists every
recipe of each model's front, solved finely, beside its plain forms, keeps what meets the limits, and takes the lowest
bits-per-byte of each model. Both rank by prediction; nothing is built.
"""

import math
import sys
import tempfile
from pathlib import Path

import numpy as np

from edgeprune.artifacts import RunFolder, read_arrays, read_record, write_record
from edgeprune.pipeline.choose import choose_models
from edgeprune.predict.cost import CostModel
from edgeprune.predict.quality import QualityModel
from edgeprune.schema.budget import Budget, BudgetRequest, Limit, Workload
from edgeprune.schema.candidate import Candidate
from edgeprune.schema.choice import ChoiceRequest
from edgeprune.schema.device import DeviceProfile
from edgeprune.schema.events import NullProgress
from edgeprune.schema.model import ModelSpec
from edgeprune.schema.scores import Scores
from edgeprune.search.allocate import Allocator
from edgeprune.search.candidates import allocated, baselines, dense
from edgeprune.search.problem import Limits, Problem
from edgeprune.search.quantities import predicted_verdict
from edgeprune.search.space import build_space
from tests.bench.search_claims import Claims
from tests.bench.search_lab import cache_folder, lab_folder
from tests.bench.search_tiny import CONTEXT, trained_model
from tests.unit.search.builders import make_device

__all__ = ["run"]

SHAPES = {"deep": (4, 96, 256), "wide": (2, 160, 432), "small": (2, 64, 176)}
"""Blocks, hidden size, FFN width."""
LEVELS = 24
DISK_SHARES = (1.0, 0.5, 0.3, 0.15)
"""Limits as shares of the largest model's dense bytes."""


def run(claims: Claims, *, quick: bool) -> None:
    lab = lab_folder()
    if lab is None:
        print("  EDGEPRUNE_LAB is not set: left out", file=sys.stderr)
        return
    texts = lab / "text" / "medicine.calib.jsonl"
    folders = [
        trained_model(cache_folder(), texts, steps=5 if quick else 200, blocks=blocks, hidden=hidden, width=width)
        for blocks, hidden, width in SHAPES.values()
    ]
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        write_record(scratch / "device.json", make_device(name="bench"))
        largest = None
        agreed = 0
        shares = DISK_SHARES[:1] if quick else DISK_SHARES
        for share in shares:
            limit = float("inf") if largest is None else share * largest
            request = _request(lab, folders, scratch, limit=None if math.isinf(limit) else limit)
            report = choose_models(request, output=scratch / "choice", progress=NullProgress())
            fronts = _fronts(scratch / "choice", read_record(scratch / "device.json", DeviceProfile))
            largest = largest or max(entry.cost.disk_bytes for found in fronts.values() for entry, _ in found)
            expected = _ranked(fronts, Budget(disk_bytes=None if math.isinf(limit) else round(limit)))
            ranking = (
                [] if not report.devices else [(row.model, row.bits_per_byte) for row in report.devices[0].ranking]
            )
            is_equal = [model for model, _ in ranking] == [model for model, _ in expected]
            agreed += is_equal
            rows.append(
                {
                    "disk limit MB": limit / 1e6,
                    "choose": _shown(ranking),
                    "brute force": _shown(expected),
                    "agree": is_equal,
                }
            )
    claims.keep("choose", rows)
    text = "budgets for which choose ranks three models as brute force over their fronts does"
    claims.judge("choose", text, float(agreed), f"{agreed} of {len(rows)}", "all", agreed == len(rows))


def _request(lab: Path, folders: list[Path], scratch: Path, *, limit: float | None) -> ChoiceRequest:
    text = lab / "text"
    return ChoiceRequest(
        models=tuple(map(str, folders)),
        devices=(str(scratch / "device.json"),),
        budget=BudgetRequest(disk=None if limit is None else Limit(absolute=limit)),
        context_tokens=CONTEXT,
        domain=(str(text / "medicine.calib.jsonl"),),
        general=(str(text / "general.calib.jsonl"),),
        evaluation=(str(text / "medicine.valid.jsonl"),),
        evaluations=0,
        measure_count=0,
    )


def _fronts(choice: Path, device: DeviceProfile) -> dict[str, list[tuple[Candidate, float]]]:
    """Model -> recipes with their predicted bits-per-byte on selection text."""
    found: dict[str, list[tuple[Candidate, float]]] = {}
    for path in sorted(choice.rglob("scores.json")):
        folder = RunFolder(path.parent)
        spec, scores = read_record(folder.model, ModelSpec), read_record(folder.scores, Scores)
        quality = QualityModel(spec, scores, read_arrays(folder.scores_arrays))
        problem = Problem(
            spec=spec,
            scores=scores,
            cost_model=CostModel(device, spec, Workload(context_tokens=CONTEXT)),
            quality_model=quality,
            budget=Budget(),
            context_tokens=CONTEXT,
            seed=0,
        )
        space = build_space(problem)
        allocator = Allocator(space, floor_bytes=problem.cost_model.floor_bytes)
        whole = dense(problem)
        entries = [whole, *baselines(problem)]
        for level in np.geomspace(0.05 * whole.cost.disk_bytes, whole.cost.disk_bytes, LEVELS):
            allocation = allocator.least_loss(Limits(disk_bytes=float(level)))
            if allocation is not None:
                entries.append(allocated(problem, allocation, "front", basis="exact"))
        bits = next(entry.bits_per_byte for entry in scores.dense_losses if entry.text == "domain.selection")
        # `choose` calls a model by the name of its run folder.
        found[folder.root.name] = [(entry, bits * (1.0 + entry.relative_loss)) for entry in entries]
    return found


def _ranked(fronts: dict[str, list[tuple[Candidate, float]]], budget: Budget) -> list[tuple[str, float]]:
    best = {
        model: min((bits for entry, bits in entries if predicted_verdict(entry, budget) == "met"), default=None)
        for model, entries in fronts.items()
    }
    known = [(model, bits) for model, bits in best.items() if bits is not None]
    return sorted(known, key=lambda pair: pair[1])


def _shown(ranking: list[tuple[str, float | None]] | list[tuple[str, float]]) -> str:
    return " < ".join(f"{model[-8:]} {bits:.3f}" for model, bits in ranking if bits is not None)
