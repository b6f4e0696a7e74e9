"""float32 decode against the roofline: bytes read per token over the bandwidth of reading an array of that size.

Decode blocks and the bandwidth probe of `edgeprune profile`, with the same threads, run in turns; a round's figure is
the bandwidth reached over the bandwidth measured. The C loop of `stream.c` keeps the probe honest, see `bandwidth.py`.
"""

import numpy as np

from edgeprune.profile.bandwidth import measure_point
from tests.bench.decode_bytes import bytes_per_token
from tests.bench.decode_models import SIZES, build_ours, random_model
from tests.bench.decode_rounds import BLOCK_TOKENS, PROMPT_TOKENS, Bench, alternate, decoding, opened

LEAST, MOST = 0.80, 1.05
SAMPLES = 3


def run(bench: Bench) -> None:
    """One figure."""
    size = SIZES["tiny" if bench.quick else "full"]
    cache = bench.cache / ("tiny" if bench.quick else "full")
    folder = build_ours(random_model(cache, size), cache / "ours-fp32", "fp32")
    tokens = np.random.default_rng(0).integers(0, size.vocabulary, PROMPT_TOKENS, dtype=np.int64)
    read = bytes_per_token(folder, past_tokens=PROMPT_TOKENS + BLOCK_TOKENS // 2)

    def array() -> float:
        point = measure_point(read, thread_count=bench.threads, sample_count=SAMPLES)
        assert point.read_median_bytes_per_s is not None
        return read / point.read_median_bytes_per_s

    sides = {"decode": decoding(opened(folder, bench.threads), tokens), "array": array}
    times = alternate(sides, bench.rounds)
    medians = {f"{name}_s": float(np.median(found)) for name, found in times.items()}
    what = f"roofline reached, {read / 1e6:.0f} MB a token"
    bench.judge("roofline", what, times["array"] / times["decode"], MOST, least=LEAST, bytes_per_token=read, **medians)
