"""Recovery beside its controls, on the lab model: what training gives back, and whether the pruning was worth it.

    python tests/bench/quality_recovery.py [--minutes M] [--kept F ...] [--domain D ...] [--technique T] [--seed S ...]
                                           [--quick]

For each fraction kept, on the same calibration text, for the same minutes of this machine: the compressed model,
recovered; the dense model, trained by the same loop on the text alone; and a smaller dense model of as many parameters,
trained from nothing for the minutes of calibration, planning and building as well (at the larger fraction, where no
claim rests on it, for the first seed alone). Beside them the dense model and the compressed one untouched. Reported on
the domain's `valid` text, which nothing selects on; a difference counts where a paired bootstrap over documents (95 %)
excludes zero. Each model's losses are kept under EDGEPRUNE_BENCH_CACHE (default: results/cache beside this file), so a
bench that was stopped goes on. Claims, for 20 minutes on two cores: at 0.6 kept within 1.5 % of the dense model trained
alike and not above the dense model untouched; at 0.35 within 8 %, and better than the model from nothing. Exits with 1
when a claim is missed.
"""

import argparse
import copy
import math
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from transformers import LlamaConfig, LlamaForCausalLM

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY))

from edgeprune.artifacts import hash_parts, read_record, write_record  # noqa: E402
from edgeprune.calibrate.corpus import encode  # noqa: E402
from edgeprune.calibrate.loss import cut_windows, measure_loss  # noqa: E402
from edgeprune.calibrate.token_bytes import token_byte_lengths  # noqa: E402
from edgeprune.compress.apply import compress_model  # noqa: E402
from edgeprune.compress.recover import data  # noqa: E402
from edgeprune.compress.recover.checkpoint import CheckpointFile  # noqa: E402
from edgeprune.compress.recover.data import RecoveryText, read_recovery_text  # noqa: E402
from edgeprune.compress.recover.distill import MEASUREMENTS, RATES, Told, train  # noqa: E402
from edgeprune.compress.recover.optimizer import Optimizer, Rates  # noqa: E402
from edgeprune.compress.recover.plan import USED_SHARE, plan_recovery  # noqa: E402
from edgeprune.compress.recover.precision import Precision  # noqa: E402
from edgeprune.compress.recover.speed import step_seconds  # noqa: E402
from edgeprune.compress.recover.trained import kinds, own_parameters  # noqa: E402
from edgeprune.intake.load import LoadedModel  # noqa: E402
from edgeprune.schema.base import Record  # noqa: E402
from edgeprune.schema.events import NullProgress  # noqa: E402
from edgeprune.schema.recipe import Recipe  # noqa: E402
from edgeprune.schema.recovery import RECOVERY_MODES, Recovery, RecoveryMode  # noqa: E402
from tests.bench import quality_lab as lab_model  # noqa: E402
from tests.bench.quality_lab import CONTEXT_TOKENS, DOMAINS, Domain, open_domain  # noqa: E402
from tests.bench.quality_rows import plan_row  # noqa: E402
from tests.bench.quality_sources import is_kept, source_hash  # noqa: E402
from tests.bench.search_claims import Claims  # noqa: E402
from tests.bench.search_lab import lab_folder  # noqa: E402

__all__ = ["Losses", "dense_trained", "document_losses", "from_nothing", "paired_interval", "recovered"]

FROM_NOTHING_RATES = Rates(matrix=0.014, table=0.005, vector=0.005)
"""As the demo is trained from nothing."""
RESAMPLES = 2000
ALLOWED = {0.6: 0.015, 0.35: 0.08}
"""Fraction kept -> how far above the dense model trained alike the recovered one may stay."""


class Losses(Record, frozen=True, kw_only=True):
    """One model on the domain's report text, document by document."""

    label: str
    parameter_count: int
    trained: Recovery | None
    """What its training was, in steps; None where there was none."""
    nats: tuple[float, ...]
    scored_bytes: tuple[int, ...]
    made_s: float = 0.0
    """What compressing or training took."""
    sources: str = ""

    @property
    def bits_per_byte(self) -> float:
        return sum(self.nats) / math.log(2) / sum(self.scored_bytes)


def recovered(
    domain: Domain, recipe: Recipe, *, minutes: float, seed: int, mode: RecoveryMode = "auto"
) -> tuple[LoadedModel, Recovery]:
    """The recipe's model, trained for that long as `--recover-minutes` trains it."""
    bare = msgspec.structs.replace(recipe, recovery=None, seed=seed)
    untrained = compress_model(domain.dense, bare, domain.stats, progress=NullProgress())
    text = read_recovery_text(domain.folder.texts, untrained, context_tokens=CONTEXT_TOKENS)
    plan = plan_recovery(untrained, domain.dense, text, minutes=minutes, mode=mode, seed=seed)
    trained = msgspec.structs.replace(bare, recovery=plan)
    student = compress_model(domain.dense, trained, domain.stats, progress=lab_model.Told(), texts=domain.folder.texts)
    return student, plan


def dense_trained(domain: Domain, *, minutes: float, seed: int) -> tuple[LoadedModel, Recovery]:
    """The dense model after as long on the same text; of the text alone, since it has nothing to learn from itself."""
    student = replace(domain.dense, model=copy.deepcopy(domain.dense.model))
    return student, _train_alone(domain, student, RATES, minutes=minutes, seed=seed)


def from_nothing(domain: Domain, parameter_count: int, *, minutes: float, seed: int) -> tuple[LoadedModel, Recovery]:
    """A Llama of at most that many parameters with the dense one's depth and tokenizer, trained from random weights."""
    spec = domain.dense.spec
    config = domain.dense.model.config
    head, groups = config.head_dim, config.num_key_value_heads

    def shaped(width: int) -> LlamaConfig:
        sizes = {
            "hidden_size": width,
            "intermediate_size": max(8, round(width * config.intermediate_size / config.hidden_size / 8) * 8),
            "num_attention_heads": config.num_attention_heads,
            "num_key_value_heads": groups,
            "head_dim": max(8, round(head * width / config.hidden_size / 2) * 2),
        }
        return LlamaConfig(**{**config.to_dict(), **sizes})

    def count(width: int) -> int:
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in LlamaForCausalLM(shaped(width)).parameters())

    width = max(width for width in range(16, config.hidden_size + 1, 8) if count(width) <= parameter_count)
    torch.manual_seed(seed)
    model = LlamaForCausalLM(shaped(width))
    model.set_attn_implementation("eager")
    model.eval()
    small = msgspec.structs.replace(spec, hidden_size=width, parameter_count=count(width))
    student = replace(domain.dense, model=model, spec=small)
    return student, _train_alone(domain, student, FROM_NOTHING_RATES, minutes=minutes, seed=seed)


def document_losses(
    model: LoadedModel, path: Path, *, label: str, trained: Recovery | None, limit: int | None
) -> Losses:
    """Loss of each document of a report text, windows as validation cuts them."""
    documents = [msgspec.json.decode(line)["text"] for line in path.read_bytes().splitlines()][:limit]
    lengths = token_byte_lengths(model.tokenizer)
    nats, scored = [], []
    for tokens in encode(model.tokenizer, documents):
        windows = cut_windows([tokens], CONTEXT_TOKENS)
        nats.append(measure_loss(model, windows)[0] if windows else 0.0)
        scored.append(sum(int(lengths[window[1:]].sum()) for window in windows))
    return Losses(
        label=label,
        parameter_count=sum(parameter.numel() for parameter in model.model.parameters()),
        trained=trained,
        nats=tuple(nats),
        scored_bytes=tuple(scored),
    )


def paired_interval(ours: Losses, theirs: Losses, *, seed: int = 0) -> tuple[float, float]:
    """95 % interval of ours / theirs - 1 in bits-per-byte, by resampling documents of both together."""
    generator = np.random.default_rng(seed)
    mine, yours = (_rows(losses) for losses in (ours, theirs))
    ratios = np.empty(RESAMPLES)
    for number in range(RESAMPLES):
        picked = generator.integers(len(mine), size=len(mine))
        (a, a_bytes), (b, b_bytes) = mine[picked].sum(axis=0), yours[picked].sum(axis=0)
        ratios[number] = (a / a_bytes) / (b / b_bytes) - 1.0
    low, high = np.quantile(ratios, (0.025, 0.975))
    return float(low), float(high)


def _rows(losses: Losses) -> NDArray[np.float64]:
    rows: NDArray[np.float64] = np.array([losses.nats, losses.scored_bytes], dtype=np.float64).T
    return rows


def _train_alone(domain: Domain, student: LoadedModel, rates: Rates, *, minutes: float, seed: int) -> Recovery:
    """The loop of the distillation without anything to learn from but the text, for so many minutes."""
    own_parameters(student.model)
    text = read_recovery_text(domain.folder.texts, student, context_tokens=CONTEXT_TOKENS)
    steps, precision = _fitting(student, text, rates, minutes=minutes, seed=seed)
    plan = Recovery(mode="distill", steps=steps, precision=precision)
    parameters = dict(student.model.named_parameters())
    train(
        student,
        parameters,
        Optimizer(parameters, kinds(student), rates),
        text,
        plan,
        teacher=None,
        seed=seed,
        file=CheckpointFile(None),
        tell=_tell,
        text_share=1.0,
    )
    return plan


def _fitting(
    student: LoadedModel, text: RecoveryText, rates: Rates, *, minutes: float, seed: int
) -> tuple[int, Precision]:
    parameters = dict(student.model.named_parameters())
    started = time.perf_counter()
    measure_loss(student, text.selection)
    measuring = (MEASUREMENTS + 1) * (time.perf_counter() - started)
    precisions: tuple[Precision, ...] = ("float32", "bfloat16")
    timed = {
        precision: step_seconds(
            student,
            None,
            text,
            Recovery(mode="distill", steps=2, precision=precision),
            parameters,
            Optimizer(parameters, kinds(student), rates),
            seed=seed,
        ).step_s
        for precision in precisions
    }
    best = min(timed, key=lambda name: timed[name])
    return max(1, int((60.0 * minutes * USED_SHARE - measuring) / timed[best])), best


def _tell(told: Told) -> None:
    print(f"  step {told.step}: loss {told.loss:.4f} (was {told.first_loss:.4f})", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--kept", action="append", type=float)
    parser.add_argument("--domain", action="append", choices=DOMAINS)
    parser.add_argument("--technique", default="auto")
    parser.add_argument("--mode", choices=RECOVERY_MODES, default="auto")
    parser.add_argument("--seed", action="append", type=int)
    parser.add_argument(
        "--quick", action="store_true", help="a minute each, small steps, to check that the bench works"
    )
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "quality_recovery.json")
    options = parser.parse_args()
    lab = lab_folder()
    if lab is None:
        print("EDGEPRUNE_LAB is not set; this bench is about the lab model alone.")
        return 1
    minutes = options.minutes
    if options.quick:
        minutes = 1.0
        # Steps that fit into a minute of a machine that does other work as well.
        data.BATCH_TOKENS, data.SELECTION_TOKENS = CONTEXT_TOKENS, CONTEXT_TOKENS
    limit = 8 if options.quick else None
    claims = Claims()
    for name in options.domain or DOMAINS[:1]:
        domain = open_domain(lab, name)
        seeds = options.seed or ((0,) if options.quick else (0, 1, 2))
        for seed in seeds:
            for kept in options.kept or ((0.6,) if options.quick else (0.35, 0.6)):
                is_whole = kept != max(ALLOWED) or seed == seeds[0]
                rows = _compare(
                    domain, options.technique, kept, minutes, seed, limit, options.mode, with_nothing=is_whole
                )
                claims.keep(f"{name} {kept:g} seed {seed}", [_cells(row, rows["dense"]) for row in rows.values()])
                _judge(claims, f"{name} seed {seed}", kept, rows)
                claims.write(options.output)
    missed = [claim for claim in claims.claims if not claim.is_met]
    print(f"{len(claims.claims) - len(missed)} of {len(claims.claims)} claims met")
    for claim in missed:
        print(f"  missed: {claim.section}: {claim.text}: {claim.figure} (wanted {claim.limit})")
    return 1 if missed else 0


def _compare(
    domain: Domain,
    technique: str,
    kept: float,
    minutes: float,
    seed: int,
    limit: int | None,
    mode: RecoveryMode,
    *,
    with_nothing: bool,
) -> dict[str, Losses]:
    path = domain.lab / "text" / f"{domain.name}.valid.jsonl"
    plan = plan_row(domain, technique, kept, f"{domain.name}-{technique}-{kept:g}")
    if plan is None or plan.recipe is None:
        raise SystemExit(f"{technique} does not reach {kept:g}: {plan and plan.refusal}")
    recipe = plan.recipe
    found: dict[str, Losses] = {}

    def compressed() -> tuple[LoadedModel, None]:
        return compress_model(domain.dense, recipe, domain.stats, progress=NullProgress()), None

    def whole_minutes() -> float:
        before = domain.calibration_s + plan.seconds + found["compressed"].made_s
        return round(minutes + before / 60.0, 1)

    makers: dict[str, tuple[list[object], Callable[[], tuple[LoadedModel, Recovery | None]]]] = {
        "dense": ([], lambda: (domain.dense, None)),
        "compressed": ([technique, kept], compressed),
        "recovered": (
            [technique, kept, minutes, seed, mode, data.BATCH_TOKENS],
            lambda: recovered(domain, recipe, minutes=minutes, seed=seed, mode=mode),
        ),
        "dense trained": (
            [minutes, seed, data.BATCH_TOKENS],
            lambda: dense_trained(domain, minutes=minutes, seed=seed),
        ),
        "from nothing": (
            [technique, kept, minutes, seed],
            lambda: from_nothing(domain, found["compressed"].parameter_count, minutes=whole_minutes(), seed=seed),
        ),
    }
    if not with_nothing:
        del makers["from nothing"]
    sources = source_hash("edgeprune.compress.apply", "edgeprune.compress.recover.plan")
    for label, (parts, make) in makers.items():
        key = hash_parts(domain.key, label, parts, limit)
        file = lab_model.results_folder() / f"recovery-{domain.name}-{label.replace(' ', '-')}-{key[:12]}.json"
        before = read_record(file, Losses) if file.is_file() else None
        if before is not None and (before.sources == sources or is_kept()):
            found[label] = before
            continue
        print(f"{domain.name} {label} {parts}", file=sys.stderr, flush=True)
        started = time.perf_counter()
        model, trained = make()
        made_s = round(time.perf_counter() - started, 1)
        measured = document_losses(model, path, label=label, trained=trained, limit=limit)
        found[label] = msgspec.structs.replace(measured, made_s=made_s, sources=sources)
        write_record(file, found[label])
    return found


def _judge(claims: Claims, section: str, kept: float, rows: dict[str, Losses]) -> None:
    ours = rows["recovered"]
    allowed = ALLOWED.get(kept)
    if allowed is None:
        return
    excess = ours.bits_per_byte / rows["dense trained"].bits_per_byte - 1.0
    low, high = paired_interval(ours, rows["dense trained"])
    text = f"{kept:g}: within {allowed:.1%} of the dense model trained alike"
    figure = f"{excess:+.2%} ({low:+.2%}..{high:+.2%})"
    claims.judge(section, text, excess, figure, f"<= {allowed:.1%}", excess <= allowed)
    is_large = kept == max(ALLOWED)
    other = rows["dense"] if is_large else rows["from nothing"]
    gap = ours.bits_per_byte / other.bits_per_byte - 1.0
    low, high = paired_interval(ours, other)
    figure = f"{gap:+.2%} ({low:+.2%}..{high:+.2%})"
    if is_large:
        claims.judge(section, f"{kept:g}: not above the dense model untouched", gap, figure, "<= 0", gap <= 0.0)
    else:
        claims.judge(section, f"{kept:g}: better than from nothing", gap, figure, "interval below 0", high < 0.0)


def _cells(row: Losses, dense: Losses) -> dict[str, object]:
    return {
        "model": row.label,
        "parameters": row.parameter_count,
        "kept": round(row.parameter_count / dense.parameter_count, 4),
        "bits_per_byte": round(row.bits_per_byte, 5),
        "rise": f"{row.bits_per_byte / dense.bits_per_byte - 1.0:+.2%}",
        "steps": None if row.trained is None else row.trained.steps,
        "block_steps": None if row.trained is None else row.trained.block_steps,
        "adapt_steps": None if row.trained is None else row.trained.adapt_steps,
        "precision": None if row.trained is None else row.trained.precision,
        "minutes": round(row.made_s / 60.0, 1),
    }


if __name__ == "__main__":
    sys.exit(main())
