"""Arithmetic of `tests/bench/demo.py`: rises and their ranges, the promises judged, the README's table."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.demo.paths import DEMO_DOMAINS
from edgeprune.validate.accuracy import wilson_interval

CHANCE = 0.25
BOOTSTRAP_SAMPLES = 2000

Losses = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Nats and scored UTF-8 bytes of each document."""


def criterion(name: str, measured: float, limit: float, *, is_least: bool, source: str) -> dict[str, Any]:
    """One promise judged; `is_least` says whether the limit is the least or the most that is allowed."""
    is_met = measured >= limit if is_least else measured <= limit
    return {
        "name": name,
        "measured": measured,
        "limit": limit,
        "direction": "at least" if is_least else "at most",
        "met": bool(math.isfinite(measured) and is_met),
        "source": source,
    }


def rise(edited: Losses, dense: Losses) -> float:
    """Bits-per-byte of the edited model / the dense model's, minus one."""
    return float(edited[0].sum() / edited[1].sum() / (dense[0].sum() / dense[1].sum()) - 1.0)


def rise_samples(edited: Losses, dense: Losses, *, seed: int) -> NDArray[np.float64]:
    """The rise over documents drawn again with replacement, `BOOTSTRAP_SAMPLES` times."""
    count = len(dense[0])
    drawn = np.random.default_rng(seed).integers(0, count, (BOOTSTRAP_SAMPLES, count))
    per_byte = [losses[0][drawn].sum(axis=1) / losses[1][drawn].sum(axis=1) for losses in (edited, dense)]
    samples: NDArray[np.float64] = per_byte[0] / per_byte[1] - 1.0
    return samples


def pooled(losses: Sequence[Losses]) -> Losses:
    """Documents of several domains as one text."""
    return np.concatenate([nats for nats, _ in losses]), np.concatenate([sizes for _, sizes in losses])


def greedy_blocks(candidates: Sequence[int], count: int, loss: Callable[[tuple[int, ...]], float]) -> tuple[int, ...]:
    """Blocks dropped one after another, each time the one whose loss is least."""
    dropped: tuple[int, ...] = ()
    while len(dropped) < count:
        trials = [tuple(sorted((*dropped, block))) for block in candidates if block not in dropped]
        dropped = min(trials, key=loss)
    return dropped


def judge_dense(found: dict[str, Any]) -> list[dict[str, Any]]:
    """25 % below xz, 15 % below the 5-gram model, frequent facts known, rare ones half known."""
    bits, right = found["bits_per_byte"], found["accuracy"]
    rows = []
    for name, limit in (("xz", 0.25), ("5-gram", 0.15)):
        worst = min(bits, key=lambda domain: 1.0 - bits[domain]["dense"] / bits[domain][name])
        gain = 1.0 - bits[worst]["dense"] / bits[worst][name]
        rows.append(criterion(f"dense below {name}", gain, limit, is_least=True, source=f"worst domain, {worst}"))
    worst = min(right, key=lambda domain: right[domain]["frequent"])
    frequent = right[worst]["frequent"]
    rows.append(criterion("accuracy, frequent", frequent, 0.9, is_least=True, source=f"worst domain, {worst}"))
    # The files hold as many questions of each group in each domain, so the pooled share is the mean.
    count = 100 * len(right)
    shares = {group: float(np.mean([entry[group] for entry in right.values()])) for group in ("frequent", "rare")}
    low, high = wilson_interval(round(shares["rare"] * count), count)
    source = f"end of the 95 % range, {count} questions"
    rows.append(criterion("accuracy, rare, lower end", low, CHANCE + 0.05, is_least=True, source=source))
    least = wilson_interval(round(shares["frequent"] * count), count)[0] - 0.1
    rows.append(criterion("accuracy, rare, upper end", high, least, is_least=False, source=source))
    return rows


def markdown(figures: dict[str, Any]) -> str:
    """The README's table."""
    bits, right = figures["bits_per_byte"], figures["accuracy"]
    pruning = figures["domain_pruning"]
    rows = [
        ("bits-per-byte, dense", [f"{bits[domain]['dense']:.3f}" for domain in DEMO_DOMAINS]),
        ("bits-per-byte, `xz -9`", [f"{bits[domain]['xz']:.3f}" for domain in DEMO_DOMAINS]),
        ("bits-per-byte, 5-gram", [f"{bits[domain]['5-gram']:.3f}" for domain in DEMO_DOMAINS]),
        ("accuracy, frequent facts", [_share(right, domain, "frequent") for domain in DEMO_DOMAINS]),
        ("accuracy, rare facts", [_share(right, domain, "rare") for domain in DEMO_DOMAINS]),
        ("plain SVD at half rank", _rises(figures["svd_half_rank_rise"])),
    ]
    rows += [
        (f"without blocks {', '.join(map(str, entry['blocks']))}", _rises(entry["rise"])) for entry in figures["depth"]
    ]
    rows += [
        (f"pruned for {target}, {pruning['kept_fraction'][target]:.0%} kept", _rises(rises))
        for target, rises in pruning["rise"].items()
    ]
    lines = [f"| | {' | '.join(DEMO_DOMAINS)} |", "|---" * (len(DEMO_DOMAINS) + 1) + "|"]
    return "\n".join([*lines, *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows)])


def _share(right: dict[str, Any], domain: str, group: str) -> str:
    return f"{right[domain][group]:.2f}" if domain in right else "-"


def _rises(rise: dict[str, float]) -> list[str]:
    return [f"{rise[domain]:+.1%}" for domain in DEMO_DOMAINS]
