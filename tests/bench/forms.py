"""What the forms of low rank lose at as many parameters, in float32 and in 4 bits: factors, shared, pivot, few values.

    python tests/bench/forms.py [--kept F ...] [--tokens N] [--quick] [--output FILE]

The lab model, technique `lowrank` alone, calibrated on its medicine texts (the run folder of `search_lab`), reported on
report text that nothing was selected on: rise of the loss over the dense model's, bytes on disk and milliseconds a
token as predicted for this device. The pivot form in integers is left out, since no recipe of ours takes it. Prints a
table, writes JSON to tests/bench/results/, exits 1 where sharing right factors loses more than factors of their own.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from edgeprune.compress.techniques.table import technique_recipe
from edgeprune.schema.model import SiteForm
from edgeprune.schema.recipe import Recipe
from tests.bench.search_int4 import KERNEL, in_int4
from tests.bench.search_lab import CONTEXT_TOKENS, Lab, open_lab

HERE = Path(__file__).resolve().parent
FORMS: tuple[SiteForm, ...] = ("factors", "shared", "pivot", "head_rows")
KERNELS = ("fp32", KERNEL)


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kept", type=float, nargs="+", default=[0.8, 0.65, 0.5])
    parser.add_argument("--tokens", type=int, default=32_768, help="of report text")
    parser.add_argument("--quick", action="store_true", help="little text: shows that the bench works")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "forms.json")
    arguments = parser.parse_args()
    lab = open_lab(quick=arguments.quick)
    if lab is None:
        print("forms are left out: set EDGEPRUNE_LAB to the lab's folder")
        return 0
    report = lab.loss("report", limit_tokens=512 if arguments.quick else arguments.tokens)
    dense_nats = report.dense_nats_per_byte * report.bytes_per_token
    cost_model = lab.problem().cost_model
    rows = []
    print(f"{'kept':>5} {'form':8} {'kernel':12} {'shared':>7} {'loss':>8} {'MB':>7} {'ms':>7}")
    for kept in arguments.kept[: 1 if arguments.quick else None]:
        for form in FORMS:
            recipe = recipe_of(lab, kept, form)
            for kernel in KERNELS if form in ("factors", "shared") else KERNELS[:1]:
                stored = recipe if kernel == "fp32" else in_int4(lab, recipe)
                cost = cost_model.cost(stored)
                assert cost.decode_s.value is not None
                row = {
                    "kept": kept,
                    "form": form,
                    "kernel": kernel,
                    "shared_sites": sum(edit.form == "shared" for edit in stored.sites),
                    "loss": report.increase(lab.build(stored)) / dense_nats,
                    "megabytes": cost.disk_bytes / 1e6,
                    "decode_ms": 1e3 * cost.decode_s.value,
                }
                rows.append(row)
                print(
                    f"{kept:5} {form:8} {kernel:12} {row['shared_sites']:7} {row['loss']:8.4f} {row['megabytes']:7.3f} "
                    f"{row['decode_ms']:7.3f}",
                    flush=True,
                )
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(rows, indent=1))
    losses = {(row["kept"], row["form"], row["kernel"]): row["loss"] for row in rows}
    worse = [key for key, loss in losses.items() if key[1] == "shared" and loss > losses[key[0], "factors", key[2]]]
    for kept, _, kernel in worse:
        print(f"missed: at {kept} in {kernel} sharing loses more")
    return 1 if worse else 0


def recipe_of(lab: Lab, kept: float, form: SiteForm) -> Recipe:
    """`lowrank` in a form."""
    return technique_recipe(
        lab.spec,
        "lowrank",
        kept,
        scores=lab.scores,
        arrays=lab.arrays,
        context_tokens=CONTEXT_TOKENS,
        stats=lab.stats,
        loaded=lab.loaded,
        rank_form=form,
    )


if __name__ == "__main__":
    sys.exit(main())
