"""Kernels chosen freely from the device's measured table: the lab model against genai's int4 and int8 graphs of it.

    fastest mix of a prompt of 512 and 128 decoded tokens
    within genai's bytes; against int4 also within an expected loss below that of its kernel rounded to nearest,
    against int8 with kernels of 8 bits

Every site takes one of the kernels that were timed (query, key and value of a block the same one, so that they stay one
product), dynamic int8 only where its inputs have no outliers. Weights are rounded with their inputs in view, on text
that nothing is reported on. What is reported: bytes of all files that a runtime reads, bits-per-byte on the lab's
`valid` texts of graphs that give all logits, and the times of bundles that give the last.
"""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.optimize
import torch
from msgspec.structs import replace
from numpy.typing import NDArray

from edgeprune.calibrate.capture import capture
from edgeprune.calibrate.corpus import encode, pack_windows, separator_token
from edgeprune.calibrate.kernel_scores import KernelScorer
from edgeprune.calibrate.outliers import has_outliers
from edgeprune.calibrate.site_weights import site_weights
from edgeprune.calibrate.statistics import CalibrationStats
from edgeprune.compress.apply import compress_model
from edgeprune.export.graph import build_graph
from edgeprune.export.weights import write_model
from edgeprune.intake.load import LoadedModel, load_model
from edgeprune.profile.kernel_plan import ChainGroup
from edgeprune.profile.kernels import KernelSettings, measure_kernels
from edgeprune.profile.overhead import measure_overhead
from edgeprune.schema.events import NullProgress
from edgeprune.schema.kernel import parse_kernel, stored_bytes
from edgeprune.schema.recipe import Recipe, SiteEdit
from edgeprune.search.baselines import plain_recipe
from tests.bench.decode_models import KERNELS, build_genai, kept
from tests.bench.decode_rounds import (
    CONTEXT,
    PREFILLS,
    PROMPT_TOKENS,
    Bench,
    alternate,
    decoding,
    opened,
    prefilling,
)

DECODE_TOKENS = 128
"""Decoded after a prompt of the longest prefill: the mix that kernels are chosen for."""
CHOICES = (
    "int4_b32_a4", "int4_b64_a4", "int4_b128_a4", "int4_b256_a4", "int8_b32_a4", "int8_b128_a4", "int8_b256_a4",
    "dynamic_int8",
)  # fmt: skip
MOST_BITS = {"int4": 1.0, "int8": 1.01}
"""Bits-per-byte over genai's; 8 bits are asked for speed, and lose next to nothing either way."""
LOSS_SHARE = 0.8
"""Of the expected loss of genai's rounding that the choice may cost: scores are expectations."""
LIMITS = {
    ("int4", "decode"): 0.90,
    ("int4", "prefill"): 0.70,
    ("int8", "prefill"): 0.35,
}
WINDOW = 256
CALIBRATION_WINDOWS = 64
REPORT_WINDOWS = 64
DOMAINS = ("medicine", "law")
PACKED = ("q", "k", "v")
CACHE_BYTES = 32 << 20


@dataclass(frozen=True)
class Group:
    """Sites that take one kernel together."""

    names: tuple[str, ...]
    in_features: int
    out_features: int
    losses: NDArray[np.float64]
    """[kernels] nats per token, infinite where a kernel is not allowed."""


def run(bench: Bench) -> None:
    """Choose within each of genai's sizes, check bytes and quality, time."""
    lab = Path(os.environ["EDGEPRUNE_LAB"])
    cache = bench.cache / "lab"
    dense = load_model(lab / "model")
    stats, plain = None, None
    for precision in ("int4", "int8"):
        theirs = build_genai(lab / "model", cache / f"genai-{precision}", precision)
        most_bytes = size(theirs)
        folder = cache / f"choice-{precision}-{bench.threads}{'-quick' if bench.quick else ''}"
        if not folder.is_dir():
            stats = stats or calibrated(dense, lab, 8 if bench.quick else CALIBRATION_WINDOWS)
            plain = plain or table(dense, bench.threads)
            recipe = chosen(dense, stats, plain, precision, most_bytes)
            write(dense, recipe, stats, folder)
        bench.claim("choice", f"{precision}: bytes / genai's", size(folder) / most_bytes, 1.0, bytes=size(folder))
        ours_bits, their_bits = (bits_per_byte(path, dense, lab, bench) for path in (folder / "all", theirs))
        most_bits = MOST_BITS[precision]
        bench.claim(
            "choice",
            f"{precision}: bits-per-byte / genai's",
            ours_bits / their_bits,
            most_bits,
            bits_per_byte=ours_bits,
        )
        counts = json.loads((folder / "kernels.json").read_text(encoding="utf-8"))
        print(f"  kernels: {', '.join(f'{name} {count}' for name, count in counts.items())}", flush=True)
        time_both(bench, {"ours": folder, "genai": theirs}, precision, dense.spec.vocab_size)


def time_both(bench: Bench, folders: dict[str, Path], precision: str, vocabulary: int) -> None:
    """The ratios of one precision."""
    tokens = np.random.default_rng(0).integers(0, vocabulary, max(PREFILLS), dtype=np.int64)
    decoders = {side: opened(folder, bench.threads, is_ours=side == "ours") for side, folder in folders.items()}
    cases = [("decode", {side: decoding(each, tokens[:PROMPT_TOKENS]) for side, each in decoders.items()})]
    cases += [
        (f"prefill {count}", {side: prefilling(each, tokens[:count]) for side, each in decoders.items()})
        for count in PREFILLS
    ]
    for what, sides in cases:
        limit = LIMITS.get((precision, what.split()[0]))
        if limit is not None:
            times = alternate(sides, bench.rounds)
            medians = {f"{side}_s": float(np.median(found)) for side, found in times.items()}
            bench.judge("choice", f"{what} / genai's {precision}", times["ours"] / times["genai"], limit, **medians)


def size(folder: Path) -> int:
    """Bytes of graph and weights."""
    return sum(path.stat().st_size for path in folder.glob("model.onnx*"))


def calibrated(dense: LoadedModel, lab: Path, count: int) -> CalibrationStats:
    """Statistics on that many windows of the calibration texts of both domains."""
    windows = [
        pack_windows(
            encode(dense.tokenizer, documents(lab / "text" / f"{domain}.calib.jsonl")),
            separator=separator_token(dense.spec),
            window_tokens=WINDOW,
            limit_tokens=count * WINDOW // len(DOMAINS),
        )
        for domain in DOMAINS
    ]
    return capture(dense, torch.cat(windows), gradient_tokens=count * WINDOW // 2)


def documents(path: Path) -> list[str]:
    """Texts of a file of JSON lines."""
    return [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]


Table = dict[tuple[str, int, int, int], float]
"""Kernel, inputs, outputs, rows -> seconds."""


def table(dense: LoadedModel, threads: int) -> Table:
    """Times of every kernel at the model's shapes."""
    shapes = list(dict.fromkeys((group.in_features, group.out_features) for group in groups(dense, {}, ())))
    overhead = measure_overhead(thread_count=threads, round_count=9)
    settings = KernelSettings(
        thread_count=threads, round_count=9, budget_s=120.0, cache_bytes=CACHE_BYTES, most_bytes=1 << 30,
        run_s=overhead.bare_run_s, node_s=overhead.record.node_s or 0.0,
    )  # fmt: skip
    wanted = [ChainGroup(shape, None, rows, True, True) for shape in shapes for rows in (1, *PREFILLS)]
    times, notes = measure_kernels(CHOICES, wanted, settings)
    for note in notes:
        print(f"  {note}")
    return {(time.kernel, time.in_features, time.out_features, time.rows): time.time_s for time in times}


def groups(dense: LoadedModel, losses: dict[str, NDArray[np.float64]], kernels: Sequence[str]) -> list[Group]:
    """The model's sites as they are chosen for; losses of sites that are not given are 0."""
    none = np.zeros(len(kernels))
    found = []
    for block in dense.spec.blocks:
        packed = [site for site in block.sites if site.role in PACKED]
        for sites in (packed, *([site] for site in block.sites if site.role not in PACKED)):
            names = tuple(site.name for site in sites)
            loss = np.sum([losses.get(name, none) for name in names], axis=0)
            found.append(Group(names, sites[0].in_features, sum(site.out_features for site in sites), loss))
    return found


def chosen(dense: LoadedModel, stats: CalibrationStats, times: Table, precision: str, most_bytes: int) -> Recipe:
    """The fastest mix within the bytes and the loss, exactly (scipy's HiGHS)."""
    base = KERNELS[precision]
    least_bits = 8 if precision == "int8" else 4
    kernels = [
        kernel
        for kernel in CHOICES
        if parse_kernel(kernel).bits >= least_bits and all(key in times for key in _keys(dense, kernel))
    ]
    scorer, nearest = KernelScorer(kernels, "gptq"), KernelScorer((base,), "nearest")
    losses, allowed = {}, 0.0
    for site in site_weights(dense, stats):
        (found,), (theirs,) = scorer.losses(site), nearest.losses(site)
        if "dynamic_int8" in kernels and has_outliers(stats, site.name):
            found[kernels.index("dynamic_int8")] = np.inf
        losses[site.name] = found
        allowed += float(theirs[0])
    everything = groups(dense, losses, kernels)
    costs, bytes_, loss = [], [], []
    decoded = DECODE_TOKENS if precision == "int4" else 0  # of int8 only the prompt's time is asked for
    for group in everything:
        for at, kernel in enumerate(kernels):
            shape = (group.in_features, group.out_features)
            costs.append(times[(kernel, *shape, max(PREFILLS))] + decoded * times[(kernel, *shape, 1)])
            bytes_.append(stored_bytes(kernel, in_features=shape[0], out_features=shape[1]))
            loss.append(group.losses[at])
    plain = plain_recipe(dense.spec, base, context_tokens=CONTEXT, seed=0)
    head = stored_bytes(base, in_features=dense.spec.hidden_size, out_features=dense.spec.vocab_size)
    rest = 4 * (dense.spec.hidden_size * (2 * len(dense.spec.blocks) + 1) + CONTEXT * 64) + (140 << 10)  # norms, rotary
    costs_, bytes_of, losses_of = (np.array(values) for values in (costs, bytes_, loss))
    open_ = np.isfinite(losses_of)
    one_each = np.kron(np.eye(len(everything)), np.ones(len(kernels)))
    constraints = [
        scipy.optimize.LinearConstraint(one_each, 1, 1),
        scipy.optimize.LinearConstraint(bytes_of[None], 0, most_bytes - head - rest),
    ]
    if precision == "int4":
        loss_row = np.where(open_, losses_of, 0.0)[None]
        constraints.append(scipy.optimize.LinearConstraint(loss_row, -np.inf, LOSS_SHARE * allowed))
    solved = scipy.optimize.milp(
        costs_ / costs_.max(), constraints=constraints, integrality=np.ones(len(costs_)),
        bounds=scipy.optimize.Bounds(0, open_.astype(float)), options={"time_limit": 60.0},
    )  # fmt: skip
    if solved.x is None:
        raise SystemExit(f"no choice of kernels is within {most_bytes} bytes and the loss of {base}: {solved.message}")
    picks = solved.x.reshape(len(everything), len(kernels)).argmax(axis=1)
    taken = {name: kernels[pick] for group, pick in zip(everything, picks, strict=True) for name in group.names}
    sites = tuple(SiteEdit(name=name, kernel=kernel) for name, kernel in taken.items())
    return replace(plain, sites=sites, rounding="gptq")


def _keys(dense: LoadedModel, kernel: str) -> list[tuple[str, int, int, int]]:
    return [
        (kernel, group.in_features, group.out_features, rows)
        for group in groups(dense, {}, ())
        for rows in (1, *PREFILLS)
    ]


def write(dense: LoadedModel, recipe: Recipe, stats: CalibrationStats, folder: Path) -> None:
    """The bundle's graph, in `all` another that gives all logits, and what was chosen."""
    compressed = compress_model(dense, recipe, stats, progress=NullProgress())
    counts: dict[str, int] = {"table: " + recipe.table_kernel: 1}
    for edit in recipe.sites:
        counts[edit.kernel] = counts.get(edit.kernel, 0) + 1

    def make(partial: Path) -> None:
        (partial / "all").mkdir()
        write_model(build_graph(compressed, context_tokens=CONTEXT, last_logits=True), partial)
        write_model(build_graph(compressed, context_tokens=CONTEXT), partial / "all")
        (partial / "kernels.json").write_text(json.dumps(counts), encoding="utf-8")

    kept(folder, make)


def bits_per_byte(folder: Path, dense: LoadedModel, lab: Path, bench: Bench) -> float:
    """On the `valid` texts of both domains: windows of 256 tokens, the first of each not scored."""
    decoder = opened(folder, bench.threads)
    nats, count = 0.0, 0
    for domain in DOMAINS:
        windows = pack_windows(
            encode(dense.tokenizer, documents(lab / "text" / f"{domain}.valid.jsonl")),
            separator=separator_token(dense.spec),
            window_tokens=WINDOW,
            limit_tokens=(4 if bench.quick else REPORT_WINDOWS) * WINDOW,
        ).numpy()
        for window in windows:
            decoder.reset()
            logits = np.concatenate([*decoder.logits(window.astype(np.int64))])
            wide = logits[:-1].astype(np.float64)
            top = wide.max(axis=1)
            totals = top + np.log(np.exp(wide - top[:, None]).sum(axis=1))
            nats += float((totals - wide[np.arange(len(wide)), window[1:]]).sum())
            count += len(dense.tokenizer.decode(window[1:].tolist()).encode("utf-8"))
    return nats / math.log(2.0) / count
