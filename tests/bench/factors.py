"""How long do scores and factors of low rank take, against plain SVD of the same matrices?

    python tests/bench/factors.py [--output FILE] [--blocks N] [--rounds N]

A random Llama of 125 million parameters (12 blocks, 768 wide, FFN 2048) is measured on random tokens; then, site by
site and in turns, `torch.linalg.svd` (reduced) of the weight and ours: the loss of every rank and the factors at 0.8 of
the parameters, from the weight and the second moment of its inputs, both in float64 and on one thread. Compared are
best CPU times of each site, summed, so that what else runs does not count. In the first block every tenth of the ranks
up to break-even is also checked against SVD of the Cholesky-whitened weight: its error on the same statistics must not
be below ours. Prints a table, writes JSON to tests/bench/results/, exits 1
where a promise (ratio at most 0.4, no higher loss) is broken.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from edgeprune.calibrate.eigen import output_spectrum
from edgeprune.calibrate.one_thread import one_thread
from edgeprune.calibrate.rank_scores import loss_tails
from edgeprune.calibrate.site_weights import output_error
from edgeprune.calibrate.statistics import input_key
from edgeprune.compress.ranks import factor_lowrank
from edgeprune.profile.host import read_cpu
from edgeprune.shapes import break_even_rank

HERE = Path(__file__).resolve().parent
PROMISE = 0.4
SHARE = 0.8
TOLERANCE = 1e-9
"""Relative: two exact ways differ in their last digits."""
TOKENS = 3072
ROLES = {
    "self_attn.q_proj": "q", "self_attn.k_proj": "k", "self_attn.v_proj": "v", "self_attn.o_proj": "o",
    "mlp.gate_proj": "gate", "mlp.up_proj": "up", "mlp.down_proj": "down",
}  # fmt: skip


def sites(block_count: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Role of each block's sites -> weight [out, in] float32 and gram [in, in] float64 of its inputs."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32_000, hidden_size=768, intermediate_size=2048, num_hidden_layers=block_count,
        num_attention_heads=12, num_key_value_heads=12, max_position_embeddings=512, tie_word_embeddings=True,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    grams: dict[str, Tensor] = {}
    modules = {}
    for index, block in enumerate(model.model.layers):
        for path, role in ROLES.items():
            name = f"blocks.{index}.{role}"
            modules[name] = block.get_submodule(path)

            def see(_module: Any, args: tuple[Tensor, ...], key: str = input_key(name)) -> None:
                flat = args[0].reshape(-1, args[0].shape[-1])
                grams[key] = grams.get(key, torch.zeros(())) + (flat.T @ flat).double() / TOKENS

            if role in ("q", "o", "gate", "down"):
                modules[name].register_forward_pre_hook(see)
    with torch.no_grad():
        for _ in range(TOKENS // 512):
            model.model(input_ids=torch.randint(0, 32_000, (1, 512)))
    return {name: (module.weight.detach(), grams[input_key(name)]) for name, module in modules.items()}


def best(function: Callable[[], object], seconds: float) -> float:
    """The lesser of a time so far and one more."""
    start = time.process_time()
    function()
    return min(seconds, time.process_time() - start)


def timed(weight: Tensor, gram: Tensor, rounds: int) -> tuple[float, float]:
    """Best CPU seconds of ours and of plain SVD, in turns."""
    rank = int(SHARE * weight.numel() / sum(weight.shape))
    ours, svd = float("inf"), float("inf")
    for _ in range(rounds):
        svd = best(lambda: torch.linalg.svd(weight, full_matrices=False), svd)
        ours = best(lambda: scores_and_factors(weight, gram, rank), ours)
    return ours, svd


def scores_and_factors(weight: Tensor, gram: Tensor, rank: int) -> None:
    """What is timed."""
    spectrum = output_spectrum(weight, gram, rank)
    loss_tails(spectrum.values)
    factor_lowrank(weight, gram, rank, spectrum=spectrum)


def excess(weight: Tensor, gram: Tensor) -> float:
    """By how much our error is above the whitened SVD's at worst, relative; from each's own factors."""
    W = weight.double()
    limit = break_even_rank(W.shape[1], W.shape[0])
    spectrum = output_spectrum(W, gram, limit)
    losses = loss_tails(spectrum.values)
    L = torch.linalg.cholesky(gram)
    U, sigma, V = torch.linalg.svd(W @ L, full_matrices=False)
    right = torch.linalg.solve_triangular(L, sigma[:, None] * V, upper=False, left=False)
    worst = -1.0
    for rank in sorted({max(1, limit * tenth // 10) for tenth in range(1, 11)}):
        factors = factor_lowrank(W, gram, rank, spectrum=spectrum)
        ours = output_error(W - factors.left @ factors.right, gram)
        theirs = output_error(W - U[:, :rank] @ right[:rank], gram)
        worst = max(worst, ours / theirs - 1.0, float(losses[rank]) / theirs - 1.0)
    return worst


def main() -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=HERE / "results" / "factors.json")
    parser.add_argument("--blocks", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    found = sites(arguments.blocks)
    with one_thread():
        times = {name: timed(weight.double(), gram, arguments.rounds) for name, (weight, gram) in found.items()}
    checked = {role: excess(*found[f"blocks.0.{role}"]) for role in ROLES.values()}
    rows = []
    print(f"{'site':>6} {'shape':>12} {'ours s':>8} {'svd s':>8} {'ratio':>6} {'loss above whitened SVD':>24}")
    for role in ROLES.values():
        ours, svd = (
            sum(part) for part in zip(*(t for name, t in times.items() if name.endswith(f".{role}")), strict=True)
        )
        shape = "x".join(map(str, found[f"blocks.0.{role}"][0].shape))
        print(f"{role:>6} {shape:>12} {ours:>8.3f} {svd:>8.3f} {ours / svd:>6.3f} {checked[role]:>24.1e}")
        rows.append({"role": role, "shape": shape, "ours_s": ours, "svd_s": svd, "excess": checked[role]})
    ratio = sum(row["ours_s"] for row in rows) / sum(row["svd_s"] for row in rows)
    kept = ratio <= PROMISE and max(checked.values()) <= TOLERANCE
    print(f"all sites: {ratio:.3f} of the time of SVD (at most {PROMISE} promised){'' if kept else '  NOT KEPT'}")
    result = {
        "cpu": read_cpu().model, "blocks": arguments.blocks, "dtype": "float64", "threads": 1,
        "torch": torch.__version__, "ratio": ratio, "promise": PROMISE, "is_kept": kept, "rows": rows,
    }  # fmt: skip
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
