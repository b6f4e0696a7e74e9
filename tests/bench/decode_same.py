"""Same weights, same precision: our graph against genai's builder's and optimum-onnx's, decode and prefill.

Sites and the head are quantised alike in all three. The builder leaves the embedding in float32, ours is in int4 too:
one look-up a token. In float32 the logits of all are compared first.
"""

import numpy as np

from tests.bench.decode_models import SIZES, build_genai, build_optimum, build_ours, random_model
from tests.bench.decode_rounds import PREFILLS, PROMPT_TOKENS, Bench, alternate, decoding, opened, prefilling

LIMITS = {
    "genai": {("decode", "fp32"): 1.02, ("decode", "int4"): 1.00, ("prefill", "fp32"): 1.02, ("prefill", "int4"): 1.02},
    "optimum": {
        ("decode", "fp32"): 1.00,
        ("decode", "int4"): 0.80,
        ("prefill", "fp32"): 1.02,
        ("prefill", "int4"): 1.02,
    },
}
BUILDERS = {"ours": build_ours, "genai": build_genai, "optimum": build_optimum}


def run(bench: Bench, precisions: tuple[str, ...] = ("fp32", "int4")) -> None:
    """All ratios of both precisions."""
    size = SIZES["tiny" if bench.quick else "full"]
    cache = bench.cache / ("tiny" if bench.quick else "full")
    source = random_model(cache, size)
    tokens = np.random.default_rng(0).integers(0, size.vocabulary, max(PREFILLS), dtype=np.int64)
    prompt = tokens[:PROMPT_TOKENS]
    for precision in precisions:
        folders = {side: build(source, cache / f"{side}-{precision}", precision) for side, build in BUILDERS.items()}
        decoders = {side: opened(folder, bench.threads, is_ours=side == "ours") for side, folder in folders.items()}
        if precision == "fp32":
            logits = {side: decoder.prefill(prompt) for side, decoder in decoders.items()}
            for side in LIMITS:
                difference = float(np.abs(logits["ours"] - logits[side]).max() / np.abs(logits[side]).max())
                if difference > 1e-3:
                    raise SystemExit(
                        f"ours differs from {side}'s by {difference:.1e} of the largest logit: not one model"
                    )
        # Decoding comes first: it goes on from the prompt that making it has left in the caches.
        cases = [("decode", {side: decoding(decoder, prompt) for side, decoder in decoders.items()})]
        cases += [
            (f"prefill {count}", {side: prefilling(decoder, tokens[:count]) for side, decoder in decoders.items()})
            for count in PREFILLS
        ]
        for what, sides in cases:
            times = alternate(sides, bench.rounds)
            for side, limits in LIMITS.items():
                medians = {f"{name}_s": float(np.median(times[name])) for name in ("ours", side)}
                limit = limits[what.split()[0], precision]
                bench.judge("same", f"{what} {precision} / {side}", times["ours"] / times[side], limit, **medians)
