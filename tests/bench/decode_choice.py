"""Kernels chosen freely from the device's measured table: the lab model against genai's int4 and int8 graphs of it.

The choice is the search's own, `--workload 512+128 --objective request` (for int8, of which only the prompt's time is
asked for, 512+1), with every edit of shapes closed to it: within genai's bytes, and with a limit on loss, for int4 what
genai's graph is measured to lose on selection text. Weights are rounded with their inputs in view. What is reported:
bytes of all files that a runtime reads, bits-per-byte on the lab's `valid` texts of graphs that give all logits, and
the times of bundles that give the last.
"""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeprune.artifacts import RunFolder, read_arrays, read_record
from edgeprune.calibrate.corpus import encode, pack_windows, read_split, separator_token
from edgeprune.calibrate.loss import measure_loss
from edgeprune.calibrate.statistics import CalibrationStats
from edgeprune.compress.apply import compress_model
from edgeprune.export.graph import build_graph
from edgeprune.export.weights import write_model
from edgeprune.intake.load import LoadedModel, load_model
from edgeprune.pipeline.request import complete_request
from edgeprune.pipeline.stages import stage_named
from edgeprune.pipeline.table import Run, run_stages
from edgeprune.pipeline.variants import choose_without
from edgeprune.pipeline.versions import tool_versions
from edgeprune.predict.cost import CostModel
from edgeprune.predict.disk import CONFIG_BYTES, tokenizer_bytes
from edgeprune.schema.budget import Budget, Workload
from edgeprune.schema.device import DeviceProfile
from edgeprune.schema.events import NullProgress
from edgeprune.schema.lock import Lock
from edgeprune.schema.recipe import Recipe
from edgeprune.schema.run import RunManifest, RunRequest
from edgeprune.schema.scores import Scores
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

DECODE_TOKENS = {"int4": 128, "int8": 1}
"""Generated after a prompt of the longest prefill: the mix that kernels are chosen for."""
SHAPES = frozenset({"depth", "vocabulary", "groups", "channels", "lowrank", "laser"})
"""Families of edits that are closed: what is compared is kernels."""
CLOSED = {"int4": SHAPES, "int8": SHAPES | {"int4"}}
MOST_BITS = {"int4": 1.0, "int8": 1.01}
"""Bits-per-byte over genai's; 8 bits are asked for speed, and lose next to nothing either way."""
LIMITS = {
    ("int4", "decode"): 0.90,
    ("int4", "prefill"): 0.70,
    ("int8", "prefill"): 0.35,
}
WINDOW = 256
REPORT_WINDOWS = 128
DOMAINS = ("medicine", "law")


@dataclass(frozen=True)
class Known:
    """What the search reads, and the texts it may select on."""

    dense: LoadedModel
    stats: CalibrationStats
    scores: Scores
    folder: RunFolder
    selection: tuple[str, ...]


def run(bench: Bench) -> None:
    """Choose within each of genai's sizes, check bytes and quality, time."""
    lab = Path(os.environ["EDGEPRUNE_LAB"])
    cache = bench.cache / "lab"
    known: Known | None = None
    dense = load_model(lab / "model")
    # In turns, since not all of them are read.
    texts = (documents(lab / "text" / f"{domain}.valid.jsonl") for domain in DOMAINS)
    report = [text for pair in zip(*texts, strict=False) for text in pair]
    for precision in ("int4", "int8"):
        theirs = build_genai(lab / "model", cache / f"genai-{precision}", precision)
        most_bytes = size(theirs)
        folder = cache / f"found-{precision}-{bench.threads}{'-quick' if bench.quick else ''}"
        if not folder.is_dir():
            known = known or calibrated(dense, lab, cache / f"run-{bench.threads}", bench)
            write(known, chosen(known, theirs, precision, most_bytes, bench), folder)
        bench.claim("choice", f"{precision}: bytes / genai's", size(folder) / most_bytes, 1.0, bytes=size(folder))
        count = 4 if bench.quick else REPORT_WINDOWS
        ours_bits, their_bits = (bits_per_byte(path, dense, report, count, bench) for path in (folder / "all", theirs))
        bench.claim(
            "choice",
            f"{precision}: bits-per-byte / genai's",
            ours_bits / their_bits,
            MOST_BITS[precision],
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


def documents(path: Path) -> list[str]:
    """Texts of a file of JSON lines."""
    return [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]


def calibrated(dense: LoadedModel, lab: Path, root: Path, bench: Bench) -> Known:
    """This device's profile and the scores on the texts of both domains, as `run` makes them."""
    folder = RunFolder(root)
    request = complete_request(
        RunRequest(
            model=str(lab / "model"),
            domain=tuple(str(lab / "text" / f"{domain}.calib.jsonl") for domain in DOMAINS),
            context_tokens=CONTEXT - 1,
            thread_count=bench.threads,
            quick=bench.quick,
        )
    )
    root.mkdir(parents=True, exist_ok=True)
    manifest = RunManifest(request=request, versions=tool_versions())
    if folder.manifest.is_file():
        manifest = read_record(folder.manifest, RunManifest)
    work = Run(folder=folder, request=request, manifest=manifest, progress=NullProgress())
    run_stages(tuple(map(stage_named, ("intake", "profile", "calibrate"))), work)
    return Known(
        dense=dense,
        stats=CalibrationStats.load(folder.stats),
        scores=read_record(folder.scores, Scores),
        folder=folder,
        selection=tuple(read_split(folder.texts, "domain", "select")),
    )


def chosen(known: Known, theirs: Path, precision: str, most_bytes: int, bench: Bench) -> Recipe:
    """The fastest mix within the bytes and the loss."""
    spec = known.dense.spec
    workload = Workload(
        context_tokens=max(PREFILLS) + DECODE_TOKENS[precision],
        decode_tokens=DECODE_TOKENS[precision],
        thread_count=bench.threads,
    )
    device = read_record(known.folder.device, DeviceProfile)
    max_loss = MOST_BITS[precision] - 1.0
    if precision == "int4":
        count = 4 if bench.quick else REPORT_WINDOWS
        bits = bits_per_byte(theirs, known.dense, known.selection, count, bench)
        max_loss = bits / dense_bits(known, count) - 1.0
    print(f"  {precision}: at most {most_bytes} bytes and {max_loss:.2%} of loss", flush=True)
    # A bundle's tokenizer and configuration are no part of what is compared.
    beside = CONFIG_BYTES + tokenizer_bytes(spec, vocab_size=spec.vocab_size)
    found = choose_without(
        CLOSED[precision],
        budget=Budget(disk_bytes=most_bytes + beside, max_loss=max_loss, objective="request"),
        cost_model=CostModel(device, spec, workload, scores=known.scores),
        spec=spec,
        scores=known.scores,
        arrays=read_arrays(known.folder.scores_arrays),
        workload=workload,
        seed=0,
        locks=(Lock(pattern="table", action=KERNELS[precision]),),
    )
    if found is None:
        raise SystemExit(f"no choice of kernels is within {most_bytes} bytes and {max_loss:.2%} of loss")
    return found.recipe


def write(known: Known, recipe: Recipe, folder: Path) -> None:
    """The bundle's graph, in `all` another that gives all logits, and what was chosen."""
    compressed = compress_model(known.dense, recipe, known.stats, progress=NullProgress())
    counts: dict[str, int] = {"table: " + recipe.table_kernel: 1}
    for edit in recipe.sites:
        counts[edit.kernel] = counts.get(edit.kernel, 0) + 1

    def make(partial: Path) -> None:
        (partial / "all").mkdir()
        write_model(build_graph(compressed, context_tokens=CONTEXT, last_logits=True), partial)
        write_model(build_graph(compressed, context_tokens=CONTEXT), partial / "all")
        (partial / "kernels.json").write_text(json.dumps(counts), encoding="utf-8")

    kept(folder, make)


def bits_per_byte(folder: Path, dense: LoadedModel, texts: Sequence[str], count: int, bench: Bench) -> float:
    """On the first windows of 256 tokens, the first token of each not scored."""
    decoder = opened(folder, bench.threads)
    nats, scored = 0.0, 0
    for window in windows(dense, texts, count):
        decoder.reset()
        logits = np.concatenate([*decoder.logits(window.astype(np.int64))])
        wide = logits[:-1].astype(np.float64)
        top = wide.max(axis=1)
        totals = top + np.log(np.exp(wide - top[:, None]).sum(axis=1))
        nats += float((totals - wide[np.arange(len(wide)), window[1:]]).sum())
        scored += len(dense.tokenizer.decode(window[1:].tolist()).encode("utf-8"))
    return nats / math.log(2.0) / scored


def dense_bits(known: Known, count: int) -> float:
    """The dense model's, by torch, on the same windows of selection text."""
    nats, scored = 0.0, 0
    for window in windows(known.dense, known.selection, count):
        nats += measure_loss(known.dense, [window.tolist()])[0]
        scored += len(known.dense.tokenizer.decode(window[1:].tolist()).encode("utf-8"))
    return nats / math.log(2.0) / scored


def windows(dense: LoadedModel, texts: Sequence[str], count: int) -> NDArray[np.int32]:
    """[count, 256] of the texts one after another."""
    packed: NDArray[np.int32] = pack_windows(
        encode(dense.tokenizer, texts),
        separator=separator_token(dense.spec),
        window_tokens=WINDOW,
        limit_tokens=count * WINDOW,
    ).numpy()
    return packed
