"""Is the demo a world in which compression costs something? Every promise of it, measured and judged.

    python tests/bench/demo.py [--output FILE] [--threads N]
    python tests/bench/demo.py --markdown        the README's table, from the figures of the last run

- dense: bits-per-byte of each domain's report text, against `xz -9` and an interpolated 5-gram model over as many
  training tokens as the model read; accuracy on questions, by how often the training text tells the fact.
- plain SVD: every site at half of min(in, out), no repair; loss on report text against the dense model's.
- depth: a third of the blocks dropped, rounded down (judged) and up, no repair. Every selector of the
  scores and a greedy search propose; the proposal mildest on selection text is measured on report text.
- domain: contextual pruning (FFN channels and vocabulary) calibrated for one field at a time, as `edgeprune run` would
  calibrate, to the same share of the parameters; the rise of bits-per-byte on each field's report text.

Nothing is chosen on report text. Losses of edited models count windows of each document apart, as bundles do; a range
is a 95 % bootstrap over documents, an accuracy's range is Wilson's. Prints tables, writes JSON, exits with 1 when a
promise is missed.
"""

import argparse
import json
import math
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from edgeprune.calibrate.halves import skipped_drops  # noqa: E402
from edgeprune.calibrate.loss import measure_loss  # noqa: E402
from edgeprune.calibrate.run import CalibrationRequest, CalibrationResult, calibrate  # noqa: E402
from edgeprune.compress.apply import compress_model  # noqa: E402
from edgeprune.compress.techniques.table import technique_recipe  # noqa: E402
from edgeprune.demo.baselines import NgramModel, xz_bits_per_byte  # noqa: E402
from edgeprune.demo.evaluation import bits_per_byte, question_accuracy  # noqa: E402
from edgeprune.demo.model import WINDOW_TOKENS  # noqa: E402
from edgeprune.demo.paths import (  # noqa: E402
    DEMO_DOMAINS,
    DEMO_QUESTION_DOMAINS,
    demo_choice_path,
    demo_model_path,
    demo_text_path,
)
from edgeprune.demo.stream import encode_documents  # noqa: E402
from edgeprune.demo.world import World  # noqa: E402
from edgeprune.export.evaluation import tokenize_text, window_spans  # noqa: E402
from edgeprune.intake.load import LoadedModel, load_model  # noqa: E402
from edgeprune.pipeline.settings import KERNELS  # noqa: E402
from edgeprune.schema.events import NullProgress  # noqa: E402
from edgeprune.schema.recipe import Drops, Recipe, SiteEdit  # noqa: E402
from tests.bench.demo_figures import (  # noqa: E402
    Losses,
    criterion,
    greedy_blocks,
    judge_dense,
    markdown,
    pooled,
    rise,
    rise_samples,
)

CONTEXT_TOKENS = 512
KEPT_FRACTION = 0.8
"""Share of the parameters that pruning for a domain keeps: what `contextual` alone can still be used for."""
SELECTION_BYTES = 12_000
"""Selection text of each domain that proposals of blocks are compared on."""


def documents(domain: str, split: str) -> list[str]:
    """Texts of a stored split."""
    lines = demo_text_path(domain, split).read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines]


def document_losses(loaded: LoadedModel, texts: Sequence[str]) -> Losses:
    """What each document costs, in windows of its own."""
    nats, sizes = [], []
    for text in texts:
        tokenized = tokenize_text(loaded.tokenizer, [text])
        spans = window_spans(tokenized.offsets, WINDOW_TOKENS)
        nats.append(measure_loss(loaded, [tokenized.tokens[begin:end].tolist() for begin, end in spans])[0])
        sizes.append(sum(int(tokenized.byte_counts[begin + 1 : end].sum()) for begin, end in spans))
    return np.array(nats), np.array(sizes, dtype=np.float64)


def measure_dense(loaded: LoadedModel, training: dict[str, Any]) -> dict[str, Any]:
    """Bits-per-byte and accuracy of the dense model, and what cheap methods need."""
    world = World(training["seed"])
    count: int = training["tokens"]
    chunks: list[NDArray[np.int64]] = []
    stream = world.training_documents()
    while sum(map(len, chunks)) < count:
        texts = [next(stream)[1] for _ in range(4096)]
        chunks.append(np.array(encode_documents(loaded.tokenizer, texts), dtype=np.int64))
    ngrams = NgramModel(np.concatenate(chunks)[:count], loaded.tokenizer.get_vocab_size())
    bits: dict[str, dict[str, float]] = {}
    for domain in DEMO_DOMAINS:
        texts = documents(domain, "report")
        size = sum(len(text.encode()) for text in texts)
        row = np.array(encode_documents(loaded.tokenizer, texts), dtype=np.int64)
        bits[domain] = {
            "dense": bits_per_byte(loaded.model, loaded.tokenizer, texts, window_tokens=WINDOW_TOKENS),
            "xz": xz_bits_per_byte(texts),
            "5-gram": ngrams.bits(row) / size,
        }
    right: dict[str, dict[str, float]] = {}
    for domain in DEMO_QUESTION_DOMAINS:
        lines = demo_choice_path(domain).read_text(encoding="utf-8").splitlines()
        right[domain] = question_accuracy(loaded.model, loaded.tokenizer, [json.loads(line) for line in lines])
    return {"bits_per_byte": bits, "accuracy": right, "ngram_training_tokens": count}


def calibrated(loaded: LoadedModel, domain: str) -> CalibrationResult:
    """Statistics and scores as `edgeprune run` would get them with that domain's texts."""
    with tempfile.TemporaryDirectory() as folder:
        return calibrate(
            loaded,
            CalibrationRequest(
                domain=tuple(demo_text_path(domain, split) for split in ("calibration", "selection")),
                evaluation=(demo_text_path(domain, "report"),),
                context_tokens=CONTEXT_TOKENS,
                seed=0,
                kernels=KERNELS,
            ),
            texts_folder=Path(folder),
            progress=NullProgress(),
        )


def half_rank(loaded: LoadedModel) -> Recipe:
    """Plain SVD of every site at half of its smaller side."""
    sites = [site for block in loaded.spec.blocks for site in block.sites]
    return Recipe(
        model_hash=loaded.spec.model_hash,
        technique="laser",
        context_tokens=CONTEXT_TOKENS,
        sites=tuple(
            SiteEdit(name=site.name, rank=min(site.in_features, site.out_features) // 2, method="laser")
            for site in sites
        ),
    )


def selection_windows(loaded: LoadedModel) -> list[list[int]]:
    """Windows of every domain's selection text."""
    windows = []
    for domain in DEMO_DOMAINS:
        texts, size = documents(domain, "selection"), 0
        for text in texts:
            if size >= SELECTION_BYTES:
                break
            size += len(text.encode())
            tokenized = tokenize_text(loaded.tokenizer, [text])
            spans = window_spans(tokenized.offsets, WINDOW_TOKENS)
            windows += [tokenized.tokens[begin:end].tolist() for begin, end in spans]
    return windows


def propose_blocks(loaded: LoadedModel, result: CalibrationResult, count: int) -> dict[str, dict[str, Any]]:
    """Sets of blocks by selector, with their loss on selection text."""
    windows = selection_windows(loaded)

    def loss(blocks: tuple[int, ...]) -> float:
        with skipped_drops(loaded, Drops(blocks=tuple(blocks))):
            nats, scored = measure_loss(loaded, windows)
        return nats / scored

    sets = {
        option.selector: option.drops.blocks
        for option in result.scores.depth
        if len(option.drop_blocks) == count and not option.drop_attention and not option.drop_mlp
    }
    sets["greedy"] = greedy_blocks(loaded.block_indices, count, loss)
    return {name: {"blocks": list(blocks), "selection_loss_nats": loss(blocks)} for name, blocks in sets.items()}


def measure_depth(
    loaded: LoadedModel, result: CalibrationResult, rises_of: Callable[[Recipe], dict[str, float]]
) -> list[dict[str, Any]]:
    """Without a third of the blocks, rounded down and then up: what the mildest proposal on selection text costs."""
    found = []
    third = len(loaded.spec.blocks) / 3
    for count in dict.fromkeys((math.floor(third), math.ceil(third))):
        proposals = propose_blocks(loaded, result, count)
        mildest = min(proposals, key=lambda name: proposals[name]["selection_loss_nats"])
        blocks = proposals[mildest]["blocks"]
        recipe = Recipe(model_hash=loaded.spec.model_hash, context_tokens=CONTEXT_TOKENS, drop_blocks=tuple(blocks))
        rises = rises_of(recipe)
        show(f"without blocks {blocks} ({mildest}), rise of the loss", rises)
        found.append({"blocks": blocks, "selector": mildest, "proposals": proposals, "rise": rises})
    return found


def measure(loaded: LoadedModel, training: dict[str, Any]) -> dict[str, Any]:
    """Every figure and every criterion."""
    found = measure_dense(loaded, training)
    criteria = judge_dense(found)
    show_dense(found)
    dense = {domain: document_losses(loaded, documents(domain, "report")) for domain in DEMO_DOMAINS}
    results = {domain: calibrated(loaded, domain) for domain in DEMO_QUESTION_DOMAINS}
    first = results[DEMO_QUESTION_DOMAINS[0]]

    def edited(recipe: Recipe, result: CalibrationResult) -> tuple[dict[str, Losses], float]:
        model = compress_model(loaded, recipe, result.stats, progress=NullProgress())
        losses = {domain: document_losses(model, documents(domain, "report")) for domain in DEMO_DOMAINS}
        return losses, model.spec.parameter_count / loaded.spec.parameter_count

    def rises(losses: dict[str, Losses]) -> dict[str, float]:
        each = {domain: rise(losses[domain], dense[domain]) for domain in DEMO_DOMAINS}
        return each | {"all": rise(pooled(list(losses.values())), pooled(list(dense.values())))}

    svd = rises(edited(half_rank(loaded), first)[0])
    show("plain SVD at half rank, rise of the loss", svd)
    criteria.append(
        criterion("plain SVD at half rank, loss / dense", 1 + svd["all"], 2.0, is_least=True, source="all report text")
    )
    depth = measure_depth(loaded, first, lambda recipe: rises(edited(recipe, first)[0]))
    criteria.append(
        criterion(
            f"{len(depth[0]['blocks'])} of {len(loaded.spec.blocks)} blocks dropped, rise",
            depth[0]["rise"]["all"],
            0.2,
            is_least=True,
            source=f"all report text, blocks {depth[0]['blocks']} ({depth[0]['selector']})",
        )
    )
    pruning, rows = measure_domains(loaded, dense, results, edited)
    criteria += rows
    return found | {
        "svd_half_rank_rise": svd,
        "depth": depth,
        "domain_pruning": pruning,
        "criteria": criteria,
    }


def measure_domains(
    loaded: LoadedModel,
    dense: dict[str, Losses],
    results: dict[str, CalibrationResult],
    edited: Callable[[Recipe, CalibrationResult], tuple[dict[str, Losses], float]],
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Prune for each domain in turn; the matrix of rises, and whether each target is kept better than the others."""
    rows, matrix, kept = [], {}, {}
    for target, result in results.items():
        recipe = technique_recipe(
            loaded.spec,
            "contextual",
            KEPT_FRACTION,
            scores=result.scores,
            arrays=result.arrays,
            context_tokens=CONTEXT_TOKENS,
            stats=result.stats,
            loaded=loaded,
        )
        losses, kept[target] = edited(recipe, result)
        matrix[target] = {domain: rise(losses[domain], dense[domain]) for domain in DEMO_DOMAINS}
        show(f"pruned for {target} to {kept[target]:.0%}, rise of the loss", matrix[target])
        samples = {
            domain: rise_samples(losses[domain], dense[domain], seed=seed) for seed, domain in enumerate(results)
        }
        for other in results:
            if other != target:
                gap = float(np.quantile(samples[other] - samples[target], 0.025))
                rows.append(
                    criterion(
                        f"pruned for {target}: rise on {other} minus rise on {target}",
                        gap,
                        0.0,
                        is_least=True,
                        source=f"lower end of the 95 % range; {kept[target]:.0%} of the parameters kept",
                    )
                )
    return {"kept_fraction": kept, "rise": matrix}, rows


def show_dense(found: dict[str, Any]) -> None:
    bits, right = found["bits_per_byte"], found["accuracy"]
    for domain, entry in bits.items():
        share = "  ".join(f"{group} {value:.3f}" for group, value in right.get(domain, {}).items())
        shown = "  ".join(f"{name} {value:.4f}" for name, value in entry.items())
        print(f"{domain:<10} bits/byte: {shown}   {'accuracy: ' + share if share else ''}", flush=True)


def show(title: str, values: dict[str, float]) -> None:
    print(f"{title}: " + "  ".join(f"{name} {value:+.1%}" for name, value in values.items()), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "demo.json")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="torch threads (default: all cores)")
    parser.add_argument("--markdown", action="store_true", help="print the table of the last run; measure nothing")
    options = parser.parse_args()
    if options.markdown:
        if not options.output.is_file():
            parser.error(f"there is no {options.output} yet; run without --markdown first")
        print(markdown(json.loads(options.output.read_text(encoding="utf-8"))))
        return 0
    torch.set_num_threads(options.threads)
    training = json.loads((demo_model_path() / "training.json").read_text(encoding="utf-8"))
    print(f"training.json: {json.dumps(training)}")
    figures = {"training": training} | measure(load_model(demo_model_path()), training)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    criteria = figures["criteria"]
    for row in criteria:
        verdict = "met" if row["met"] else "NOT MET"
        print(f"{row['name']:<62} {row['measured']:8.3f} {row['direction']} {row['limit']:6.3f}  {verdict}")
    missed = sum(not row["met"] for row in criteria)
    print(f"{len(criteria) - missed} of {len(criteria)} met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
