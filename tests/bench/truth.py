"""Predicted against measured: disk, memory and latency of eight recipes, on two models and three devices.

    python tests/bench/truth.py [--model lab|random|all] [--device all|cores|core|thread] [--output FILE]

The lab model (EDGEPRUNE_LAB, skipped where it is absent) and a random Llama of 125 million parameters (12 blocks, 768
wide, FFN 2,048, 32,000 tokens, 4 of 12 KV heads). Devices: this machine with every core; one core of it (by affinity,
as `--emulate cores=1` has it); and one thread on all cores (the lab model only). Nothing in the predictor was fitted
on the latter two. Each recipe is built and exported; then, five rounds long, the device is profiled and all bundles
are measured in fresh processes in turns. Predictions come from config and recipe alone. Speeds of a shared machine
wander by a half within minutes, so a figure is the round whose predicted / measured is the median of the five, profile
and measurement beside each other. The lab model's tokens are trimmed in the order of its calibration, whose scores tell
how large the tokenizer then is. Prints a table and writes JSON.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY))

import torch  # noqa: E402

from edgeprune.calibrate.capture import capture  # noqa: E402
from edgeprune.compress.apply import compress_model  # noqa: E402
from edgeprune.export.bundle import export_bundle  # noqa: E402
from edgeprune.intake.load import load_model  # noqa: E402
from edgeprune.intake.spec import read_spec  # noqa: E402
from edgeprune.pipeline.device_stages import attention_shapes, site_shapes  # noqa: E402
from edgeprune.pipeline.versions import tool_versions  # noqa: E402
from edgeprune.predict.cost import CostModel  # noqa: E402
from edgeprune.profile.emulated import profile_emulated  # noqa: E402
from edgeprune.schema.budget import Budget, Workload  # noqa: E402
from edgeprune.schema.device import DeviceProfile  # noqa: E402
from edgeprune.schema.emulation import Emulation  # noqa: E402
from edgeprune.schema.events import NullProgress  # noqa: E402
from edgeprune.schema.model import MLP_ROLES, ModelSpec  # noqa: E402
from edgeprune.schema.recipe import KeepChannels, KeepTokens, Recipe, SiteEdit  # noqa: E402
from edgeprune.schema.scores import Scores  # noqa: E402
from edgeprune.search.baselines import plain_recipe  # noqa: E402
from edgeprune.validate.run import validate_bundles  # noqa: E402
from tests.bench.search_lab import CONTEXT_TOKENS, Lab, open_lab  # noqa: E402
from tests.tiny import write_tiny_llama  # noqa: E402

LIMITS = {"disk": 0.005, "peak memory": 0.05, "model memory": 0.10, "per token": 0.20}
MEDIAN_LIMITS = {"per token": 0.10}


class Device(NamedTuple):
    """What is profiled and measured on."""

    title: str
    emulation: Emulation | None = None
    thread_count: int | None = None


ROUNDS = 5

DEVICES = {
    "cores": Device("every core"),
    "core": Device("one core", emulation=Emulation(core_count=1)),
    "thread": Device("one thread", thread_count=1),
}


def recipes(spec: ModelSpec, context: int) -> dict[str, Recipe]:
    """Eight recipes that between them use every kind of edit."""
    plain = {
        name: plain_recipe(spec, kernel, context_tokens=context, seed=0)
        for name, kernel in (("dense fp32", "fp32"), ("plain int8", "int8_b32_a4"), ("plain int4", "int4_b32_a4"))
    }
    last = len(spec.blocks) - 1
    dropped = (last // 3, last // 2)
    blocks = [block for block in spec.blocks if block.index not in dropped]

    def sites(rank_share: float, kernel: str) -> tuple[SiteEdit, ...]:
        edits = []
        for block in blocks:
            for site in block.sites:
                full = min(site.in_features, site.out_features)
                rank = int(full * rank_share) // 32 * 32 if site.role in ("gate", "up", "down", "o") else None
                edits.append(SiteEdit(name=site.name, kernel=kernel, rank=rank or None))
        return tuple(edits)

    base = {"model_hash": spec.model_hash, "context_tokens": context}
    mixed = Recipe(**base, drop_blocks=dropped, sites=sites(0.5, "int4_b32_a4"), table_kernel="int8_b32_a4")
    narrow = Recipe(
        **base,
        # The random model's tokenizer has 512 tokens for 32,000 rows, so there is nothing to trim by.
        keep_tokens=KeepTokens(kept_count=spec.vocab_size * 5 // 8) if spec.vocab_size < 32000 else None,
        keep_channels=tuple(
            KeepChannels(block=block.index, kept_count=block.intermediate_size * 3 // 4 // 32 * 32)
            for block in spec.blocks
            if block.index % 2
        ),
        sites=tuple(
            SiteEdit(name=site.name, kernel="int8_b32_a4")
            for block in spec.blocks
            for site in block.sites
            if block.index % 2
        ),
    )
    halves = Recipe(
        **base,
        drop_attention=(last // 2,),
        drop_mlp=(last // 2 + 1,),
        sites=tuple(
            SiteEdit(name=site.name, kernel="int8_b32_a4")
            for block in spec.blocks
            for site in block.sites
            if (site.role in MLP_ROLES) != (block.index == last // 2 + 1)
            or block.index not in (last // 2, last // 2 + 1)
        ),
    )
    factored = Recipe(
        **base,
        sites=tuple(
            SiteEdit(name=site.name, rank=min(site.in_features, site.out_features) * 3 // 8 // 32 * 32)
            for block in spec.blocks
            for site in block.sites
            if site.role in ("gate", "up", "down")
        ),
    )
    thin = Recipe(
        **base,
        keep_channels=tuple(
            KeepChannels(block=block.index, kept_count=block.intermediate_size // 2 // 32 * 32) for block in spec.blocks
        ),
        sites=tuple(SiteEdit(name=site.name, kernel="int4_b32_a4") for block in spec.blocks for site in block.sites),
        table_kernel="int4_b32_a4",
    )
    return plain | {
        "drop + rank + int4": mixed,
        "channels + tokens + int8/fp32": narrow,
        "halves dropped + int8": halves,
        "ranks, fp32": factored,
        "half the channels, int4": thin,
    }


def random_llama(folder: Path) -> Path:
    return write_tiny_llama(
        folder,
        dtype="bfloat16",
        num_hidden_layers=12,
        hidden_size=768,
        intermediate_size=2048,
        num_attention_heads=12,
        num_key_value_heads=4,
        head_dim=64,
        vocab_size=32000,
        max_position_embeddings=1024,
    )


def profile(spec: ModelSpec, device: Device, scratch: Path) -> DeviceProfile:
    return profile_emulated(
        device.emulation,
        name=device.title,
        quick=False,
        disk_path=scratch,
        progress=NullProgress(),
        thread_count=device.thread_count,
        shapes=site_shapes(spec),
        attention_shapes=attention_shapes(spec),
    )


Pair = tuple[float | None, float | None]
"""Predicted and measured."""


def middle(rounds: list[Pair]) -> Pair:
    """The round whose ratio is the median; the first one without a figure where there is one."""
    missing = [pair for pair in rounds if not pair[0] or not pair[1]]
    return missing[0] if missing else sorted(rounds, key=lambda pair: pair[0] / pair[1])[len(rounds) // 2]  # type: ignore[operator]


class Built(NamedTuple):
    """A recipe and its bundle."""

    title: str
    folder: Path
    recipe: Recipe


def build(name: str, folder: Path, context: int, scratch: Path, lab: Lab | None) -> dict[str, Built]:
    """Every recipe exported, by the label it is measured under."""
    spec = read_spec(folder)
    workload = Workload(context_tokens=context)
    loaded = load_model(folder)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, min(500, spec.vocab_size), (2, min(context, 256)), generator=generator, dtype=torch.int32)
    stats = capture(loaded, tokens) if lab is None else lab.stats
    built: dict[str, Built] = {}
    for number, (title, recipe) in enumerate(recipes(spec, context).items()):
        label = f"recipe{number}" if number else "recipe"  # validation judges the bundle called `recipe`
        target = scratch / f"{name}-{number}"
        export_bundle(
            compress_model(loaded, recipe, stats, progress=NullProgress()),
            recipe,
            folder=target,
            label=label,
            workload=workload,
            texts=(),
            choices=(),
            budget=None,
            predicted=None,
            versions=tool_versions(),
            progress=NullProgress(),
        )
        built[label] = Built(title, target, recipe)
    return built


def measure(
    name: str, folder: Path, context: int, built: dict[str, Built], device: Device, scratch: Path, scores: Scores | None
) -> list[dict[str, object]]:
    """One row for each recipe and quantity on one device."""
    spec, workload = read_spec(folder), Workload(context_tokens=context)
    found: dict[str, dict[str, list[Pair]]] = {label: defaultdict(list) for label in built}
    for _ in range(ROUNDS):
        profiled = profile(spec, device, scratch)
        model = CostModel(profiled, spec, workload, scores=scores)
        # All together, process by process: a slow minute of the machine then hits every bundle, not one.
        report = validate_bundles(
            {label: entry.folder for label, entry in built.items()},
            budget=Budget(),
            device_name=profiled.name,
            execution_provider="CPUExecutionProvider",
            thread_count=device.thread_count,
            emulation=device.emulation,
            progress=NullProgress(),
        )
        for measured in report.measurements:
            predicted, pairs = model.cost(built[measured.label].recipe), found[measured.label]
            pairs["disk"].append((predicted.disk_bytes, measured.disk_bytes))
            pairs["peak memory"].append((predicted.peak_rss_bytes.value, measured.peak_rss_bytes))
            pairs["model memory"].append((predicted.model_memory_bytes.value, measured.model_memory_bytes))
            pairs["per token"].append((predicted.decode_s.value, measured.decode_s))
    rows: list[dict[str, object]] = []
    for label, quantities in found.items():
        title = built[label].title
        for quantity, rounds in quantities.items():
            guess, truth = middle(rounds)
            error = None if not guess or not truth else guess / truth - 1.0
            rows.append(
                {
                    "model": name,
                    "device": device.title,
                    "recipe": title,
                    "quantity": quantity,
                    "predicted": guess,
                    "measured": truth,
                    "rounds": rounds,
                    "relative_error": error,
                    "limit": LIMITS[quantity],
                    "met": error is not None and abs(error) <= LIMITS[quantity],
                }
            )
            shown = "n/a" if error is None else f"{error:+.2%}"
            print(
                f"{name:<7} {device.title:<11} {title:<30} {quantity:<13} {guess!s:>22} {truth!s:>22} {shown:>9}",
                flush=True,
            )
    return rows


def judge(rows: list[dict[str, object]]) -> int:
    """Print what each device and quantity reached; how many claims are missed."""
    missed = 0
    keys = sorted({(str(row["model"]), str(row["device"]), str(row["quantity"])) for row in rows})
    for model, device, quantity in keys:
        errors = [
            row["relative_error"]
            for row in rows
            if (row["model"], row["device"], row["quantity"]) == (model, device, quantity)
        ]
        known = [abs(error) for error in errors if isinstance(error, float)]
        if len(known) < len(errors) or not known:
            print(f"MISSED {model} {device} {quantity}: not measured")
            missed += 1
            continue
        worst, typical = max(known), statistics.median(known)
        median_limit = MEDIAN_LIMITS.get(quantity, LIMITS[quantity])
        is_met = worst <= LIMITS[quantity] and typical <= median_limit
        missed += not is_met
        print(
            f"{'met   ' if is_met else 'MISSED'} {model} {device} {quantity}: worst {worst:.2%} (limit "
            f"{LIMITS[quantity]:.1%}), median {typical:.2%} (limit {median_limit:.1%})"
        )
    return missed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=["lab", "random", "all"], default="all")
    parser.add_argument("--device", choices=[*DEVICES, "all"], default="all")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "truth.json")
    options = parser.parse_args()
    devices = list(DEVICES.values()) if options.device == "all" else [DEVICES[options.device]]
    rows: list[dict[str, object]] = []
    lab = os.environ.get("EDGEPRUNE_LAB")
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        models: dict[str, Path] = {}
        if options.model in ("lab", "all"):
            if lab is None:
                print("EDGEPRUNE_LAB is not set: the lab model is left out", file=sys.stderr)
            else:
                models["lab"] = Path(lab) / "model"
        if options.model in ("random", "all"):
            models["random"] = random_llama(scratch / "random-llama")
        for title, folder in models.items():
            scored = open_lab(quick=False) if title == "lab" else None
            built = build(title, folder, CONTEXT_TOKENS, scratch, scored)
            scores = None if scored is None else scored.scores
            for device in devices:
                if title == "lab" or device.thread_count is None:
                    rows += measure(title, folder, CONTEXT_TOKENS, built, device, scratch, scores)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(rows, indent=1))
    return 1 if judge(rows) or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
