"""The model card of a bundle: what it was made from, how, for what, and what nobody has checked.

Numbers come from the manifest's records; nothing about quality is claimed, because validation happens on the device.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence

from edgeprune.loaders import loaders_markdown
from edgeprune.schema.budget import Budget, Workload
from edgeprune.schema.bundle import BundleFile, ParityRecord
from edgeprune.schema.model import ModelSpec
from edgeprune.schema.recipe import Recipe
from edgeprune.units import format_bytes, format_fraction, format_seconds

__all__ = ["bundle_card"]


def bundle_card(
    *,
    label: str,
    spec: ModelSpec,
    recipe: Recipe,
    budget: Budget | None,
    workload: Workload,
    parity: ParityRecord,
    files: Sequence[BundleFile],
    minimum_onnxruntime: str,
    optimum: str,
) -> str:
    """Markdown of README.md with YAML front matter; `files` are those written before the card."""
    front = {
        "base_model": spec.name,
        **({"license": spec.license} if spec.license else {}),
        "library_name": "onnxruntime",
        "pipeline_tag": "text-generation",
        "tags": ["edgeprune", "onnx", label],
    }
    # JSON values are YAML values, and quoting keeps names with colons safe.
    lines = ["---", *(f"{key}: {json.dumps(value)}" for key, value in front.items()), "---", ""]
    lines += [
        f"# {spec.name}, EdgePrune bundle `{label}`",
        "",
        f"{spec.parameter_count:,} stored parameters in {len(spec.blocks)} blocks, for texts of up to "
        f"{workload.context_tokens} tokens, with onnxruntime {minimum_onnxruntime} or newer. Made from the model with "
        f"hash `{spec.model_hash}`.",
        "",
        *_table(("edit", ""), _edits(spec, recipe)),
        "",
        "The whole recipe, the budget and the hash of every file stand in `edgeprune.json`.",
        "",
        "## Made for",
        "",
        *_table(("limit", ""), _limits(budget)),
        "",
        "## Checked when it was made",
        "",
        f"Logits differ from the compressed model in torch by {parity.max_logit_difference:.1e} of the largest"
        f"{_exact(parity)}; the most likely token agrees at "
        f"{format_fraction(parity.top1_agreement)} of the positions; {parity.greedy_matched_count} of "
        f"{len(parity.greedy_tokens)} greedily generated tokens are the same.",
        "",
        "## Use",
        "",
        "```",
        "edgeprune validate <this folder>",
        "```",
        "",
        *loaders_markdown(optimum=optimum),
        "## Files",
        "",
        *_table(
            ("file", "bytes", "sha256"),
            [(f"`{entry.path}`", f"{entry.size_bytes:,}", f"`{entry.sha256}`") for entry in files],
        ),
        "",
        "## Limits",
        "",
        ("The model was fitted to the texts it was calibrated on and is worse elsewhere. " if label == "recipe" else "")
        + "It keeps the faults of its base model. Speed, memory and quality on a device are known only once "
        "`edgeprune validate` has run there.",
        "",
    ]
    if spec.license is None:
        lines += [
            "**Licence unknown:** the base model's files name none; find out before you pass this bundle on.",
            "",
        ]
    return "\n".join(lines)


def _exact(parity: ParityRecord) -> str:
    if parity.exact_logit_difference is None:
        return ""
    return f" ({parity.exact_logit_difference:.1e} where no kernel rounds activations)"


def _edits(spec: ModelSpec, recipe: Recipe) -> list[tuple[str, str]]:
    sites = [site for block in spec.blocks for site in block.sites]
    kernels = Counter(site.kernel for site in sites)
    factored = [site for site in sites if site.rank is not None]
    return [
        ("technique", recipe.technique),
        ("blocks dropped", ", ".join(map(str, recipe.drop_blocks)) or "none"),
        ("blocks without attention", ", ".join(map(str, recipe.drop_attention)) or "none"),
        ("blocks without MLP", ", ".join(map(str, recipe.drop_mlp)) or "none"),
        ("repairs in their place", ", ".join(f"rank {entry.rank}" for entry in recipe.repairs) or "none"),
        ("vocabulary", f"{spec.vocab_size} tokens" + (" kept" if recipe.keep_tokens else ", unchanged")),
        ("FFN channels", f"fewer in {len(recipe.keep_channels)} blocks" if recipe.keep_channels else "unchanged"),
        ("key-value groups", f"fewer in {len(recipe.keep_groups)} blocks" if recipe.keep_groups else "unchanged"),
        ("trained afterwards", str(recipe.recovery or "no")),
        ("low-rank sites", f"{len(factored)} of {len(sites)}"),
        ("kernels of sites", ", ".join(f"{name} × {count}" for name, count in sorted(kernels.items()))),
        ("rounding of weights", recipe.rounding),
        ("key-value cache", "int8, one scale a channel" if spec.kv_bits == 8 else f"float{spec.kv_bits}"),
        ("kernel of embedding and head", spec.table_kernel + (", one tied table" if spec.is_tied else "")),
    ]


def _limits(budget: Budget | None) -> list[tuple[str, str]]:
    if budget is None:
        return [("budget", "none: a bundle to compare with")]
    return [
        ("peak memory", _or_none(budget.memory_bytes, format_bytes)),
        ("memory of the accelerator", _or_none(budget.device_memory_bytes, format_bytes)),
        ("latency per token", _or_none(budget.latency_s, format_seconds)),
        ("time to first token", _or_none(budget.first_token_s, format_seconds)),
        ("disk", _or_none(budget.disk_bytes, format_bytes)),
        ("loss over the dense model", _or_none(budget.max_loss, format_fraction)),
        ("the same on general text", _or_none(budget.max_general_loss, format_fraction)),
        ("accuracy, at least", _or_none(budget.min_accuracy, format_fraction)),
    ]


def _or_none(value: float | None, formatted: Callable[[float | None], str]) -> str:
    return "no limit" if value is None else formatted(value)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    return [
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
