"""The model card (README.md) of a compressed model in Hugging Face layout.

Takes the recipe and the edited shapes; gives Markdown with YAML front matter. Every number in it is counted from the
shapes; no quality is claimed, because none was measured at this point.
"""

import json

from edgeprune.schema.model import ModelSpec
from edgeprune.schema.recipe import Recipe

__all__ = ["model_card"]


def model_card(spec: ModelSpec, recipe: Recipe) -> str:
    """Markdown of README.md.

    Args:
        spec: shapes of the edited model.
        recipe: what was done.
    """
    factored = [edit for edit in recipe.sites if edit.rank is not None]
    kernels = sorted({edit.kernel for edit in recipe.sites} | {recipe.table_kernel})
    edits = [
        ("Blocks dropped", ", ".join(map(str, recipe.drop_blocks)) or "none"),
        ("Blocks without attention", ", ".join(map(str, recipe.drop_attention)) or "none"),
        ("Blocks without MLP", ", ".join(map(str, recipe.drop_mlp)) or "none"),
        ("Repairs in their place", ", ".join(f"rank {entry.rank}" for entry in recipe.repairs) or "none"),
        ("Vocabulary", f"{spec.vocab_size} tokens kept" if recipe.keep_tokens else "unchanged"),
        ("FFN channels", f"narrowed in {len(recipe.keep_channels)} blocks" if recipe.keep_channels else "unchanged"),
        ("Key-value groups", f"fewer in {len(recipe.keep_groups)} blocks" if recipe.keep_groups else "unchanged"),
        ("Trained afterwards", str(recipe.recovery or "no")),
        ("Low-rank sites", f"{len(factored)}" if factored else "none"),
        ("Weights rounded to", ", ".join(kernels)),
    ]
    front = {
        "base_model": spec.name,
        **({"license": spec.license} if spec.license else {}),
        "library_name": "edgeprune",
        "pipeline_tag": "text-generation",
        "tags": ["edgeprune", "compressed", recipe.technique],
    }
    # JSON values are YAML values, and quoting keeps names with colons safe.
    lines = ["---", *(f"{key}: {json.dumps(value)}" for key, value in front.items()), "---", ""]
    lines += [
        f"# {spec.name}, compressed with EdgePrune",
        "",
        f"{spec.parameter_count:,} stored parameters in {len(spec.blocks)} blocks, for a context of "
        f"{recipe.context_tokens} tokens. Weights made from the model with hash `{spec.model_hash}`.",
        "",
        "| edit | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in edits),
        "",
        "The whole recipe stands under `edgeprune` in `config.json`.",
        "",
        "## Load",
        "",
        "```python",
        "import edgeprune",
        "",
        'loaded = edgeprune.load("this folder")',
        "logits = loaded.model(input_ids).logits",
        "```",
        "",
        "`transformers` alone does not know factored or narrowed layers, nor GPT-2's matrices stored [out, in]; it "
        "would fill them with random numbers and only warn.",
        "",
        "## Limits",
        "",
        "The model was fitted to one domain's text; elsewhere it is worse than its base model, and it keeps that "
        "model's faults. Nothing about its quality was measured when this card was written; see the bundle's "
        "validation report.",
        "",
    ]
    if spec.license is None:
        lines += ["The base model's files name no licence; find out before you pass this one on.", ""]
    return "\n".join(lines)
