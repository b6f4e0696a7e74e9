"""Ratios of graphs timed in turns in one process: the rule that every timing figure of the decode bench follows.

Both sides are loaded with equal threads and run in blocks of 32 tokens (or a prompt at a time), 20 rounds or more, the
order reversed in each; the figure is the median of the rounds' ratios with its bootstrap 95 % interval. It is met where
the median is within the limit and the upper end within the limit + 0.03.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.runtime.decode import Decoder
from edgeprune.runtime.session import REST_S, open_session
from edgeprune.schema.budget import Workload

__all__ = [
    "BLOCK_TOKENS",
    "PREFILLS",
    "PROMPT_TOKENS",
    "Bench",
    "Side",
    "alternate",
    "decoding",
    "opened",
    "prefilling",
]

MARGIN = 0.03
BLOCK_TOKENS = 32
PROMPT_TOKENS = 128
PREFILLS = (128, 512)
PIECE_TOKENS = Workload(context_tokens=1).prefill_chunk_tokens
CONTEXT = max(*PREFILLS, PROMPT_TOKENS + BLOCK_TOKENS) + 1
RESAMPLES = 10_000
WARM_ROUNDS = 2

Side = Callable[[], float]
"""Runs once and gives its seconds."""


def opened(folder: Path, threads: int, *, is_ours: bool = True) -> Decoder:
    """A decoder whose workers rest while another one is timed.

    Ours is fed prompts in the pieces of 128 tokens that bundles are made for: later pieces attend to what is cached,
    so no scores are computed that the causal mask throws away. Others take a prompt whole, as their loaders feed it.
    """
    session = open_session(folder / "model.onnx", thread_count=threads, is_one_of_many=True)
    chunk = PIECE_TOKENS if is_ours else max(PREFILLS)
    return Decoder(session, max_tokens=CONTEXT, prefill_chunk_tokens=chunk)


def decoding(decoder: Decoder, prompt: NDArray[np.int64]) -> Side:
    """Seconds a token, of a block of greedy tokens after the prompt, which stays in the cache."""
    decoder.reset()
    first = int(decoder.prefill(prompt).argmax())

    def block() -> float:
        decoder.rewind(len(prompt))
        token = first
        start = time.perf_counter()
        for _ in range(BLOCK_TOKENS):
            token = int(decoder.step(token).argmax())
        return (time.perf_counter() - start) / BLOCK_TOKENS

    return block


def prefilling(decoder: Decoder, prompt: NDArray[np.int64]) -> Side:
    """Seconds of the prompt, from nothing."""

    def whole() -> float:
        decoder.reset()
        start = time.perf_counter()
        decoder.prefill(prompt)
        return time.perf_counter() - start

    return whole


def alternate(sides: Mapping[str, Side], rounds: int) -> dict[str, NDArray[np.float64]]:
    """Seconds of each side in each round; the order is reversed every round, and the first two are thrown away."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    order = list(sides)
    for number in range(WARM_ROUNDS + rounds):
        for name in order if number % 2 else reversed(order):
            time.sleep(REST_S)
            found[name].append(sides[name]())
    return {name: np.array(times[WARM_ROUNDS:]) for name, times in found.items()}


def interval(ratios: NDArray[np.float64]) -> tuple[float, float, float]:
    """Median of the ratios, and the ends of its bootstrap 95 % interval."""
    drawn = np.random.default_rng(0).choice(ratios, (RESAMPLES, len(ratios)))
    low, high = np.percentile(np.median(drawn, axis=1), (2.5, 97.5))
    return float(np.median(ratios)), float(low), float(high)


@dataclass
class Bench:
    """Settings of a run, and the rows found so far."""

    cache: Path
    rounds: int
    threads: int
    quick: bool
    output: Path
    conditions: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)

    def judge(
        self, section: str, what: str, ratios: NDArray[np.float64], limit: float, *, least: float = 0.0, **facts: Any
    ) -> None:
        """Judge a ratio by its rounds, print and write it; `least`: it must not be lower either."""
        ratio, low, high = interval(ratios)
        is_met = (
            ratio <= limit and high <= limit + MARGIN and (least == 0.0 or (ratio >= least and low >= least - MARGIN))
        )
        row = {"section": section, "what": what, "ratio": ratio, "ratio_low": low, "ratio_high": high}
        row |= {"limit": limit, "least": least, "met": bool(is_met), "rounds": len(ratios), **facts}
        self.add(row)

    def claim(self, section: str, what: str, value: float, limit: float, **facts: Any) -> None:
        """A figure that is counted, not timed: met where it is not above the limit."""
        self.add({"section": section, "what": what, "ratio": value, "limit": limit, "met": value <= limit, **facts})

    def add(self, row: dict[str, Any]) -> None:
        """Keep a row, show it, and write all of them."""
        self.rows.append(row)
        print(_line(row), flush=True)
        self.output.parent.mkdir(parents=True, exist_ok=True)
        content = {**self.conditions, "threads": self.threads, "quick": self.quick, "rows": self.rows}
        self.output.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _line(row: dict[str, Any]) -> str:
    between = f"[{row['ratio_low']:.3f}, {row['ratio_high']:.3f}]" if "ratio_low" in row else ""
    limit = f"{row['least']:.2f} to {row['limit']:.3f}" if row.get("least") else f"{row['limit']:.3f}"
    times = "  ".join(f"{name[:-2]} {1e3 * row[name]:.2f} ms" for name in sorted(row) if name.endswith("_s"))
    verdict = "met" if row["met"] else "not met"
    return f"  {row['what']:44} {row['ratio']:6.3f} {between:16} {limit:>12} {verdict:8} {times}"
