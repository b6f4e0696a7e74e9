"""`budgets`: twelve budgets on the lab model; what is called feasible is met as measured, and what is allowed is used.

The device is profiled, each budget is solved, its recipe built and exported, and all bundles are measured together in
turns, so that a slow minute of the machine hits every one. Limits are shares of the way from the least any recipe
needs to what plain int8 needs, and of plain int8's time and size.
"""

import sys
import tempfile
from pathlib import Path

from edgeprune.export.bundle import export_bundle
from edgeprune.pipeline.versions import tool_versions
from edgeprune.profile.run import profile_device
from edgeprune.schema.budget import Budget
from edgeprune.schema.candidate import Candidate
from edgeprune.schema.device import DeviceProfile
from edgeprune.schema.events import NullProgress
from edgeprune.schema.measurement import BundleMeasurement
from edgeprune.search.allocate import Allocator
from edgeprune.search.baselines import plain_recipe
from edgeprune.search.choose import choose
from edgeprune.search.quantities import predicted_verdict
from edgeprune.search.space import build_space
from edgeprune.validate.run import validate_bundles
from tests.bench.search_claims import Claims
from tests.bench.search_lab import Lab, open_lab

__all__ = ["run"]

USED = {"disk": 0.97, "memory": 0.95, "latency": 0.92}
LOSS_LEFT = 0.002
"""Relative loss below which more size brings nothing: such a recipe need not use what is allowed."""


def run(claims: Claims, *, quick: bool) -> None:
    lab = open_lab(quick=quick)
    if lab is None:
        print("  EDGEPRUNE_LAB is not set: left out", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        device = lab.device if quick else _profiled(lab, scratch)
        wanted = _budgets(lab, device)
        chosen: dict[str, tuple[Budget, Candidate]] = {}
        for title, budget in list(wanted.items())[: 1 if quick else None]:
            found = _solved(lab, device, budget)
            if found is None or predicted_verdict(found, budget) != "met":
                print(f"  {title}: not feasible as predicted")
                continue
            chosen[title] = (budget, found)
        measured = _measured(lab, device, {title: entry for title, (_, entry) in chosen.items()}, scratch)
    _judge(claims, device, chosen, measured, asked=len(wanted))


def _profiled(lab: Lab, scratch: Path) -> DeviceProfile:
    shapes = {(site.in_features, site.out_features) for block in lab.spec.blocks for site in block.sites}
    return profile_device(
        name="bench",
        quick=False,
        disk_path=scratch,
        progress=NullProgress(),
        shapes=tuple(sorted(shapes | {(lab.spec.hidden_size, lab.spec.vocab_size)})),
        attention_shapes=tuple({(block.num_heads, block.num_kv_heads, block.head_dim) for block in lab.spec.blocks}),
    )


def _budgets(lab: Lab, device: DeviceProfile) -> dict[str, Budget]:
    """Four of memory, two of disk, four of latency, two mixed."""
    cost_model = lab.problem(device=device).cost_model
    recipe = plain_recipe(lab.spec, "int8_b32_a4", context_tokens=lab.workload.context_tokens, seed=0)
    plain = cost_model.cost(recipe)
    assert plain.model_memory_bytes.high is not None
    assert plain.decode_s.high is not None
    floor, added = cost_model.floor_bytes or 0, plain.model_memory_bytes.high
    seconds, size = plain.decode_s.high, plain.disk_bytes

    def memory(share: float) -> int:
        return round(floor + share * added)

    budgets = {f"memory {share:g}": Budget(memory_bytes=memory(share)) for share in (0.9, 0.8, 0.7, 0.6)}
    budgets |= {f"disk {share:g}": Budget(disk_bytes=round(share * size)) for share in (0.6, 0.35)}
    budgets |= {f"latency {share:g}": Budget(latency_s=share * seconds) for share in (0.9, 0.8, 0.7, 0.6)}
    budgets["memory 0.75, disk 0.5"] = Budget(memory_bytes=memory(0.75), disk_bytes=round(0.5 * size))
    budgets["latency 0.8, disk 0.45"] = Budget(latency_s=0.8 * seconds, disk_bytes=round(0.45 * size))
    return budgets


def _solved(lab: Lab, device: DeviceProfile, budget: Budget) -> Candidate | None:
    problem = lab.problem(budget, device=device)
    space = build_space(problem)
    return choose(problem, space, Allocator(space, floor_bytes=problem.cost_model.floor_bytes, seed=0))


def _measured(
    lab: Lab, device: DeviceProfile, chosen: dict[str, Candidate], scratch: Path
) -> dict[str, BundleMeasurement]:
    titles, bundles = {}, {}
    for number, (title, entry) in enumerate(chosen.items()):
        label = f"recipe{number}" if number else "recipe"  # validation judges the bundle called `recipe`
        export_bundle(
            lab.build(entry.recipe),
            entry.recipe,
            folder=scratch / label,
            label=label,
            workload=lab.workload,
            texts=(),
            choices=(),
            budget=None,
            predicted=entry.cost,
            versions=tool_versions(),
            progress=NullProgress(),
        )
        titles[label], bundles[label] = title, scratch / label
    report = validate_bundles(
        bundles,
        budget=Budget(),
        device_name=device.name,
        execution_provider="CPUExecutionProvider",
        thread_count=None,
        progress=NullProgress(),
    )
    return {titles[found.label]: found for found in report.measurements}


def _judge(
    claims: Claims,
    device: DeviceProfile,
    chosen: dict[str, tuple[Budget, Candidate]],
    measured: dict[str, BundleMeasurement],
    *,
    asked: int,
) -> None:
    floor = 0 if device.floor is None else device.floor.peak_rss_bytes
    rows: list[dict[str, object]] = []
    kept = 0
    uses: dict[str, list[float | None]] = {name: [] for name in USED}
    for title, (budget, entry) in chosen.items():
        found = measured[title]
        limits = {
            "disk": (budget.disk_bytes, found.disk_bytes, 0),
            "memory": (budget.memory_bytes, found.peak_rss_bytes, floor),
            "latency": (budget.latency_s, found.decode_s, 0),
        }
        row: dict[str, object] = {"budget": title, "loss": entry.relative_loss}
        is_kept = True
        for name, (limit, value, paid) in limits.items():
            row[f"{name} used"] = None
            if limit is None:
                continue
            share = None if value is None else (value - paid) / (limit - paid)
            row[f"{name} used"] = share
            is_kept = is_kept and value is not None and value <= limit
            # With two limits only one need bind.
            if entry.relative_loss > LOSS_LEFT and title.startswith(f"{name} ") and "," not in title:
                uses[name].append(share)
        row["met"] = is_kept
        kept += is_kept
        rows.append(row)
    claims.keep("budgets", rows)
    claims.judge(
        "budgets", "feasible budgets met as measured", float(kept), f"{kept} of {len(chosen)}", "all",
        kept == len(chosen) and bool(chosen),
    )  # fmt: skip
    claims.judge(
        "budgets", "budgets that are feasible", float(len(chosen)), f"{len(chosen)} of {asked}", "most",
        2 * len(chosen) > asked,
    )  # fmt: skip
    for name, shares in uses.items():
        known = [share for share in shares if share is not None]
        least = min(known) if known and len(known) == len(shares) else None
        text = f"least of the allowed {name} that is used where loss is left ({len(shares)} budgets)"
        claims.above("budgets", text, least, USED[name])
