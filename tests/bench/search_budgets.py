"""`budgets`: twelve budgets on the lab model; what is called feasible is met as measured, and what is allowed is used.

As a user on the device would do it: profile, solve, build, measure; recalibrate the profile by what was measured
(`validate --recalibrate`), solve again, build and measure again. Claims are judged on the second round. Bundles of a
round are measured together in turns, so that a slow minute of the machine hits every one. Limits are shares of what
the plain int8 bundle adds to the floor, takes on disk and needs per token; times wander between rounds, so a limit of
time is that share of plain int8's time in the same round.
"""

import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from edgeprune.export.bundle import export_bundle
from edgeprune.pipeline.recalibrate import recalibrate_profile
from edgeprune.pipeline.versions import tool_versions
from edgeprune.profile.run import profile_device
from edgeprune.schema.budget import Budget
from edgeprune.schema.candidate import Candidate
from edgeprune.schema.device import DeviceProfile
from edgeprune.schema.events import NullProgress
from edgeprune.schema.measurement import BundleMeasurement
from edgeprune.search.allocate import Allocator
from edgeprune.search.candidates import baselines, dense
from edgeprune.search.choose import choose
from edgeprune.search.quantities import predicted_verdict
from edgeprune.search.space import build_space
from edgeprune.validate.bundle import read_manifest
from edgeprune.validate.run import validate_bundles
from tests.bench.search_claims import Claims
from tests.bench.search_lab import Lab, open_lab

__all__ = ["run"]

USED = {"disk": 0.97, "memory": 0.95, "latency": 0.92}
ANCHOR = "int8"
"""Label of the plain bundle that limits are shares of."""
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
        problem = lab.problem(device=device)
        guess = {entry.label: entry for entry in (dense(problem), *baselines(problem))}
        first = _solve_all(lab, device, _budgets(_predicted(guess[ANCHOR]), _floor(device)), quick=quick)
        found, device = _measured(lab, device, guess | first, scratch / "first")
        for label, entry in found.items():
            print(f"  first round, {label}: {entry.decode_s} s, {entry.model_memory_bytes} bytes", file=sys.stderr)
        wanted = _budgets(_seen(found[ANCHOR]), _floor(device))
        problem = lab.problem(device=device)
        anchor = next(entry for entry in baselines(problem) if entry.label == ANCHOR)
        assert anchor.cost.decode_s.value is not None
        # The solver knows plain int8's time as the recalibrated profile predicts it; what is measured is judged by it.
        seconds = wanted_seconds(wanted, _seen(found[ANCHOR]).decode_s, anchor.cost.decode_s.value)
        chosen = _solve_all(lab, device, seconds, quick=quick)
        measured, _ = _measured(lab, device, {ANCHOR: anchor} | chosen, scratch / "second")
        judged = wanted_seconds(wanted, _seen(found[ANCHOR]).decode_s, _seen(measured[ANCHOR]).decode_s)
    _judge(claims, device, judged, chosen, measured)


def wanted_seconds(budgets: dict[str, Budget], old_s: float, new_s: float) -> dict[str, Budget]:
    """The budgets with their limits of time as shares of another time of plain int8."""
    return {
        title: budget if budget.latency_s is None else replace(budget, latency_s=budget.latency_s / old_s * new_s)
        for title, budget in budgets.items()
    }


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


class _Plain(NamedTuple):
    """Plain int8: what it adds to the floor, takes on disk, needs per token."""

    model_bytes: float
    disk_bytes: int
    decode_s: float


def _predicted(entry: Candidate) -> _Plain:
    memory, seconds = entry.cost.model_memory_bytes.value, entry.cost.decode_s.value
    assert memory is not None
    assert seconds is not None
    return _Plain(memory, entry.cost.disk_bytes, seconds)


def _seen(entry: BundleMeasurement) -> _Plain:
    assert entry.model_memory_bytes is not None
    assert entry.decode_s is not None
    return _Plain(entry.model_memory_bytes, entry.disk_bytes, entry.decode_s)


def _floor(device: DeviceProfile) -> int:
    assert device.floor is not None
    return device.floor.peak_rss_bytes


def _budgets(plain: _Plain, floor: int) -> dict[str, Budget]:
    """Four of memory, two of disk, four of latency, two mixed."""

    def memory(share: float) -> int:
        return round(floor + share * plain.model_bytes)

    def disk(share: float) -> int:
        return round(share * plain.disk_bytes)

    budgets = {f"memory {share:g}": Budget(memory_bytes=memory(share)) for share in (0.9, 0.8, 0.7, 0.6)}
    budgets |= {f"disk {share:g}": Budget(disk_bytes=disk(share)) for share in (0.6, 0.35)}
    budgets |= {f"latency {share:g}": Budget(latency_s=share * plain.decode_s) for share in (0.9, 0.8, 0.7, 0.6)}
    budgets["memory 0.75, disk 0.5"] = Budget(memory_bytes=memory(0.75), disk_bytes=disk(0.5))
    budgets["latency 0.8, disk 0.45"] = Budget(latency_s=0.8 * plain.decode_s, disk_bytes=disk(0.45))
    return budgets


def _solve_all(lab: Lab, device: DeviceProfile, budgets: dict[str, Budget], *, quick: bool) -> dict[str, Candidate]:
    chosen = {}
    for title, budget in list(budgets.items())[: 1 if quick else None]:
        found = _solved(lab, device, budget)
        if found is None or predicted_verdict(found, budget) != "met":
            print(f"  {title}: not feasible as predicted", file=sys.stderr)
            continue
        chosen[title] = found
    return chosen


def _solved(lab: Lab, device: DeviceProfile, budget: Budget) -> Candidate | None:
    problem = lab.problem(budget, device=device)
    space = build_space(problem)
    return choose(problem, space, Allocator(space, floor_bytes=problem.cost_model.floor_bytes))


def _measured(
    lab: Lab, device: DeviceProfile, chosen: dict[str, Candidate], scratch: Path
) -> tuple[dict[str, BundleMeasurement], DeviceProfile]:
    """By title; and the device recalibrated by them."""
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
    manifests = {label: read_manifest(folder) for label, folder in bundles.items()}
    recalibrated, _ = recalibrate_profile(device, report, manifests)
    return {titles[found.label]: found for found in report.measurements}, recalibrated


def _judge(
    claims: Claims,
    device: DeviceProfile,
    budgets: dict[str, Budget],
    chosen: dict[str, Candidate],
    measured: dict[str, BundleMeasurement],
) -> None:
    floor = _floor(device)
    rows: list[dict[str, object]] = []
    kept = 0
    uses: dict[str, list[float | None]] = {name: [] for name in USED}
    for title, entry in chosen.items():
        budget, found = budgets[title], measured[title]
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
        "budgets", "budgets that are feasible", float(len(chosen)), f"{len(chosen)} of {len(budgets)}", "most",
        2 * len(chosen) > len(budgets),
    )  # fmt: skip
    for name, shares in uses.items():
        known = [share for share in shares if share is not None]
        least = min(known) if known and len(known) == len(shares) else None
        text = f"least of the allowed {name} that is used where loss is left ({len(shares)} budgets)"
        claims.above("budgets", text, least, USED[name])
