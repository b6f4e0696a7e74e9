"""`int4`: with every matrix in 4 bits, the joint search against each single technique at equal bytes.

A single technique keeps as large a fraction as fits the bytes, then all its matrices are rounded to int4, with the same
rounding as ours. The joint search has the same kernel by lock and the same limit, and builds recipes on selection text
as a run does. All are built and measured on report text that nothing was selected on.
"""

import contextlib
import shutil
import sys
import tempfile
from pathlib import Path

from msgspec.structs import replace

from edgeprune.artifacts import RunFolder, read_record
from edgeprune.compress.techniques.table import technique_recipe
from edgeprune.errors import EdgePruneError, UsageError
from edgeprune.pipeline.stages import stage_named
from edgeprune.pipeline.table import Run, run_stage
from edgeprune.schema.budget import BudgetRequest, Limit
from edgeprune.schema.candidate import SearchResult
from edgeprune.schema.events import NullProgress
from edgeprune.schema.lock import parse_locks
from edgeprune.schema.model import MLP_ROLES
from edgeprune.schema.recipe import Recipe, SiteEdit
from edgeprune.search.baselines import plain_recipe
from tests.bench.search_claims import Claims
from tests.bench.search_lab import CONTEXT_TOKENS, Lab, open_lab

__all__ = ["run"]

KERNEL = "int4_b32_a4"
SHARES = (0.9, 0.75, 0.6)
"""Limits, of plain int4's bytes."""
TECHNIQUES = ("laser", "lowrank", "svdllm", "lorp", "sleb", "contextual", "obs")
EVALUATIONS = 10
REPORT_TOKENS = 32_768
STEPS = 7
TIE_PERCENT = 0.0


def run(claims: Claims, *, quick: bool) -> None:
    lab = open_lab(quick=quick)
    if lab is None:
        print("  EDGEPRUNE_LAB is not set: left out", file=sys.stderr)
        return
    report = lab.loss("report", limit_tokens=512 if quick else REPORT_TOKENS)
    dense_nats = report.dense_nats_per_byte * report.bytes_per_token
    cost_model = lab.problem().cost_model
    plain = plain_recipe(lab.spec, KERNEL, context_tokens=CONTEXT_TOKENS, seed=0)
    plain_bytes = cost_model.cost(plain).disk_bytes
    rows: list[dict[str, object]] = []

    def measured(limit: float, name: str, recipe: Recipe | None) -> float | None:
        loss = None if recipe is None else report.increase(lab.build(recipe)) / dense_nats
        size = None if recipe is None else cost_model.cost(recipe).disk_bytes / 1e6
        rows.append({"of plain int4": limit, "recipe": name, "MB": size, "loss": loss})
        return loss

    measured(1.0, "plain int4", replace(plain, rounding=lab.scores.rounding))
    for share in SHARES[:1] if quick else SHARES:
        limit = round(share * plain_bytes)
        ours = measured(share, "joint", joint(lab, limit, evaluations=2 if quick else EVALUATIONS))
        theirs = {name: measured(share, name, single(lab, name, limit)) for name in TECHNIQUES}
        known = {name: loss for name, loss in theirs.items() if loss is not None}
        best = min(known, key=known.__getitem__, default=None)
        ratio = None if ours is None or best is None else 100.0 * ((1.0 + ours) / (1.0 + known[best]) - 1.0)
        text = f"loss of int4 + joint over int4 + best single technique ({best}) at {share:g} of plain int4's bytes"
        claims.below("int4", text, ratio, TIE_PERCENT, unit=" %")
    claims.keep("int4", rows)


def joint(lab: Lab, limit_bytes: int, *, evaluations: int) -> Recipe | None:
    """What a run's search and refinement choose; None where nothing fits."""
    request = replace(
        lab.run.request,
        budget=BudgetRequest(disk=Limit(absolute=float(limit_bytes))),
        locks=parse_locks((f"blocks.0-{len(lab.spec.blocks) - 1}={KERNEL}", f"table={KERNEL}")),
        evaluations=evaluations,
        worker_count=1,
    )
    with tempfile.TemporaryDirectory() as name:
        folder = RunFolder(Path(name) / "run")
        shutil.copytree(
            lab.run.folder.root, folder.root, ignore=shutil.ignore_patterns("evaluations", "residuals.json")
        )
        run = Run(folder=folder, request=request, manifest=lab.run.manifest, progress=NullProgress())
        with contextlib.closing(run):
            try:
                for stage in ("search", "refine"):
                    run_stage(stage_named(stage), run)
            except EdgePruneError as error:
                print(f"  joint: {error}", file=sys.stderr)
                return None
        chosen = read_record(folder.front, SearchResult).chosen
    return None if chosen is None else chosen.recipe


def single(lab: Lab, technique: str, limit_bytes: int) -> Recipe | None:
    """The technique at the largest fraction that fits in int4; None where it cannot keep as little."""
    low, high, found = 0.2, 1.0, None
    cost_model = lab.problem().cost_model
    for _ in range(STEPS):
        kept = (low + high) / 2.0
        try:
            recipe = technique_recipe(
                lab.spec,
                technique,
                kept,
                scores=lab.scores,
                arrays=lab.arrays,
                context_tokens=CONTEXT_TOKENS,
                stats=lab.stats,
                loaded=lab.loaded,
            )
        except UsageError:
            low = kept
            continue
        rounded = in_int4(lab, recipe)
        if cost_model.cost(rounded).disk_bytes <= limit_bytes:
            low, found = kept, rounded
        else:
            high = kept
    return found


def in_int4(lab: Lab, recipe: Recipe) -> Recipe:
    """The recipe with every matrix that is left in int4."""
    edits = {edit.name: edit for edit in recipe.sites}
    gone = {(index, is_mlp) for index in recipe.drop_blocks for is_mlp in (False, True)}
    gone |= {(index, False) for index in recipe.drop_attention} | {(index, True) for index in recipe.drop_mlp}
    left = [
        site.name
        for block in lab.spec.blocks
        for site in block.sites
        if (block.index, site.role in MLP_ROLES) not in gone
    ]
    return replace(
        recipe,
        sites=tuple(replace(edits.get(name, SiteEdit(name=name)), kernel=KERNEL) for name in left),
        table_kernel=KERNEL,
        rounding=lab.scores.rounding,
    )
