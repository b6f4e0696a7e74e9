"""`scaling`: how long solving takes, from shapes and synthetic scores alone.

Wall clock on one thread. Two kinds of problem: the shapes of a Llama of 125 million parameters with more or fewer
blocks, all edits allowed; and a bare multiple choice of 80 blocks x 7 sites x 16 options under two limits.
"""

import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from edgeprune.predict.cost import CostModel
from edgeprune.predict.interval import Interval
from edgeprune.predict.price import FREE, Price
from edgeprune.predict.quality import QualityModel
from edgeprune.schema.budget import Budget
from edgeprune.schema.recipe import Drops, SiteEdit
from edgeprune.schema.scores import ScoreArrays
from edgeprune.search.allocate import Allocator
from edgeprune.search.baselines import plain_recipe
from edgeprune.search.problem import Limits, Problem
from edgeprune.search.solve import search
from edgeprune.search.space import Column, Group, Space, build_space
from tests.bench.search_claims import Claims
from tests.unit.search.builders import make_device, make_scores, make_spec, make_workload

__all__ = ["run"]

T = TypeVar("T")
BLOCKS = (8, 16, 32, 64)
SHARES = ((0.3, 0.45), (0.4, 0.5), (0.5, 0.6), (0.35, 0.35))
"""Of the dense memory and time (first problem) or disk and time (second) that the limits allow."""
SUPERLINEAR = 1.5
"""Seconds a block at 64 blocks may be this many times those at 8."""


def run(claims: Claims, *, quick: bool) -> None:
    repeats = 1 if quick else 3
    _linear(claims, BLOCKS[:3] if quick else BLOCKS, repeats)
    _bare(claims, 16 if quick else 80, repeats, seeds=1 if quick else 12)


def llama_problem(blocks: int) -> tuple[Problem, ScoreArrays]:
    """Shapes of a Llama 768 wide, FFN 2,048, 12 heads of which 4 for keys, 32,000 tokens, with every kind of edit."""
    spec = make_spec(
        blocks=blocks, hidden=768, heads=12, kv_heads=4, intermediate=2048, vocab=32000, max_positions=1024
    )
    scores, arrays = make_scores(
        spec,
        channel_counts=[2048 * share // 8 for share in range(3, 8)],
        depth=[tuple(range(1, 1 + count)) for count in range(1, blocks // 2)],
        vocabulary=[32000 * share // 8 for share in range(3, 8)],
    )
    problem = Problem(
        spec=spec,
        scores=scores,
        cost_model=CostModel(make_device(), spec, make_workload(spec)),
        quality_model=QualityModel(spec, scores, arrays),
        budget=Budget(),
        context_tokens=512,
        seed=0,
    )
    return problem, arrays


def _linear(claims: Claims, counts: tuple[int, ...], repeats: int) -> None:
    rows: list[dict[str, object]] = []
    per_block: dict[int, float] = {}
    for blocks in counts:
        problem, _ = llama_problem(blocks)
        dense = problem.cost_model.cost(plain_recipe(problem.spec, "fp32", context_tokens=512, seed=0))
        memory, per_token = dense.model_memory_bytes.value, dense.decode_s.value
        assert memory is not None
        assert per_token is not None
        floor = problem.cost_model.floor_bytes or 0
        space, build_s = _timed(lambda problem=problem: build_space(problem), repeats)
        allocator, layout_s = _timed(lambda space=space, floor=floor: Allocator(space, floor_bytes=floor), 1)
        solves = []
        for of_memory, of_time in SHARES:
            limits = Limits(memory_bytes=floor + of_memory * memory, latency_s=of_time * per_token)
            found, took_s = _timed(lambda limits=limits, allocator=allocator: allocator.least_loss(limits), repeats)
            assert found is not None
            solves.append(took_s)
        whole_s = build_s + layout_s + float(np.mean(solves))
        per_block[blocks] = whole_s / blocks
        rows.append(
            {
                "blocks": blocks,
                "columns": len(space.columns),
                "build s": build_s,
                "mean solve s": float(np.mean(solves)),
                "worst solve s": max(solves),
                "ms a block": 1e3 * whole_s / blocks,
            }
        )
    claims.keep("scaling", rows)
    first, last = per_block[counts[0]], per_block[counts[-1]]
    text = f"seconds a block at {counts[-1]} blocks / at {counts[0]} (linear: 1)"
    claims.below("scaling", text, last / first, SUPERLINEAR)
    resolve_s = _resolve(*llama_problem(12), repeats)
    claims.below(
        "scaling", "whole search of a 12-block Llama of 125 million, front included", resolve_s, 1.0, unit=" s"
    )


def _resolve(problem: Problem, arrays: ScoreArrays, repeats: int) -> float:
    """Seconds of a whole search again: every budget solved as if a slider had been moved."""
    dense = problem.cost_model.cost(plain_recipe(problem.spec, "fp32", context_tokens=512, seed=0))
    worst = 0.0
    for share in (0.2, 0.4):
        budget = Budget(disk_bytes=round(share * dense.disk_bytes), memory_bytes=round(dense.peak_rss_bytes.high or 0))
        _, took_s = _timed(
            lambda budget=budget: search(
                problem.spec,
                problem.scores,
                arrays,
                cost_model=problem.cost_model,
                quality_model=problem.quality_model,
                budget=budget,
                workload=make_workload(problem.spec),
                device_name="bench",
                seed=0,
            ),
            repeats,
        )
        worst = max(worst, took_s)
    return worst


def bare_space(blocks: int, *, seed: int, sites: int = 7, options: int = 16) -> Space:
    """A multiple choice whose sizes, times and losses are noisy functions of the share kept."""
    rng = np.random.default_rng(seed)
    columns = [Column(group=0, loss_nats=0.0, price=None, drops=Drops())]
    groups = [Group()]
    for _ in range(blocks * sites):
        size, energy = rng.choice([2.4e6, 0.8e6, 6.3e6]), rng.lognormal(-3.0, 1.0) / blocks
        for option in range(options):
            share = (option + 1) / options
            stored = round(size * share * rng.uniform(0.9, 1.1))
            seconds = size * (0.2 + 0.8 * share * rng.uniform(0.7, 1.3)) * 1e-10
            time_s = Interval(seconds, seconds, seconds)
            price = Price(disk_bytes=stored, decode_cached_s=time_s, decode_streaming_s=time_s)
            loss = energy * (1.0 / share - 1.0) ** 1.2 * rng.uniform(0.9, 1.1)
            columns.append(
                Column(group=len(groups), loss_nats=loss, price=price, site=SiteEdit(name=f"{len(columns)}"))
            )
        groups.append(Group())
    return Space(
        columns=tuple(columns), groups=tuple(groups), fixed=FREE, has_time=True, decode_tokens=64, is_restricted=False
    )


def _bare(claims: Claims, blocks: int, repeats: int, *, seeds: int) -> None:
    rows: list[dict[str, object]] = []
    for seed in range(seeds):
        space = bare_space(blocks, seed=seed)
        allocator, layout_s = _timed(lambda space=space: Allocator(space, floor_bytes=0), 1)
        largest = np.zeros((len(space.groups), 2))
        for column in space.columns:
            if column.price is not None:
                paid = (column.price.disk_bytes, column.price.decode_high_s(0.0) or 0.0)
                largest[column.group] = np.maximum(largest[column.group], paid)
        disk, seconds = largest.sum(axis=0)
        for of_disk, of_time in SHARES:
            limits = Limits(disk_bytes=of_disk * disk, latency_s=of_time * seconds)
            found, took_s = _timed(
                lambda limits=limits, allocator=allocator: allocator.least_loss(limits, gap=0.0), repeats
            )
            assert found is not None
            rows.append(
                {
                    "seed": seed,
                    "of disk": of_disk,
                    "of time": of_time,
                    "solve s": layout_s + took_s,
                    "proved gap": found.gap,
                    "loss": sum(column.loss_nats for column in found.taken),
                }
            )
    claims.keep("scaling", rows)
    what = f"{blocks} blocks x 7 sites x 16 options under two limits at gap 0, slowest of {len(rows)}"
    claims.below("scaling", what, max(float(str(row["solve s"])) for row in rows), 2.0, unit=" s")
    claims.below("scaling", "largest gap left there", max(float(str(row["proved gap"])) for row in rows), 1e-8)


def _timed(work: Callable[[], T], repeats: int) -> tuple[T, float]:
    """The result and the fastest of some repeats."""
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        result = work()
        best = min(best, time.perf_counter() - started)
    return result, best
