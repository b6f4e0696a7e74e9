"""Per-token time against the sum of the graph's kernels' own times, measured as the device profile measures them.

Every matrix product of our graph is timed in a chain of such products that exceeds the last-level cache (a model of
this size streams its weights), attention and norms in chains of their own, and each other node at the fixed cost of a
node: the probes of `edgeprune profile`. They run in turns with blocks of decoded tokens; a round's ratio is its
decode time over its sum.
"""

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import onnx

from edgeprune.profile.attention import measure_attention
from edgeprune.profile.bound_graph import BoundGraph
from edgeprune.profile.host import last_level_cache_bytes, read_cpu
from edgeprune.profile.kernel_plan import ChainGroup, streaming_length
from edgeprune.profile.overhead import measure_overhead
from edgeprune.runtime.probe_graph import norm_chain
from edgeprune.runtime.probe_graph_sites import site_chain
from tests.bench.decode_models import SIZES, build_ours, random_model
from tests.bench.decode_rounds import BLOCK_TOKENS, PROMPT_TOKENS, Bench, Side, alternate, decoding, opened

LIMIT = 1.10
MOST_BYTES = 1 << 30
MOST_SITES = 256
NORM_COUNT = 50
NORMS = ("SimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization")
FOLDED = ("Constant",)


class Product(NamedTuple):
    """A matrix product of the graph."""

    kernel: str
    in_features: int
    out_features: int


def products(path: Path) -> tuple[Counter[Product], Counter[str]]:
    """Matrix products of a float32 or MatMulNBits graph, and how often each other operator stands in it."""
    model = onnx.load(path, load_external_data=False)
    shapes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    found: Counter[Product] = Counter()
    others: Counter[str] = Counter()
    for node in model.graph.node:
        attributes = {entry.name: entry.i for entry in node.attribute}
        if node.op_type == "MatMulNBits":
            kernel = f"int{attributes['bits']}_b{attributes['block_size']}_a{attributes['accuracy_level']}"
            found[Product(kernel, attributes["K"], attributes["N"])] += 1
        elif node.op_type in ("MatMul", "FusedMatMul"):
            rows, columns = shapes[node.input[1]]
            found[Product("fp32", *((columns, rows) if attributes.get("transB") else (rows, columns)))] += 1
        elif node.op_type not in FOLDED:
            others[node.op_type] += 1
    return found, others


def run(bench: Bench) -> None:
    """One ratio a precision."""
    size = SIZES["tiny" if bench.quick else "full"]
    cache = bench.cache / ("tiny" if bench.quick else "full")
    source = random_model(cache, size)
    tokens = np.random.default_rng(0).integers(0, size.vocabulary, PROMPT_TOKENS, dtype=np.int64)
    overhead = measure_overhead(thread_count=bench.threads, round_count=9)
    node_s = overhead.record.node_s or 0.0
    attention = (size.heads, size.kv_heads, size.hidden // size.heads)
    point = (1, PROMPT_TOKENS + BLOCK_TOKENS // 2)
    for precision in ("fp32", "int4"):
        folder = build_ours(source, cache / f"ours-{precision}", precision)
        matrices, others = products(folder / "model.onnx")
        with TemporaryDirectory(prefix="edgeprune-decode-") as scratch:
            sides: dict[str, Side] = {"decode": decoding(opened(folder, bench.threads), tokens)}
            counts: dict[str, int] = {}
            for number, (product, count) in enumerate(matrices.items()):
                name = f"{product.kernel} {product.in_features}x{product.out_features}"
                sides[name] = chain(product, Path(scratch) / str(number), bench.threads, node_s, overhead.bare_run_s)
                counts[name] = count
            norms = BoundGraph(norm_chain(NORM_COUNT, width=size.hidden), thread_count=bench.threads)
            norms.bind_rows(1)
            sides["norm"] = lambda: (norms.time(5) - overhead.bare_run_s) / NORM_COUNT  # noqa: B023 - read in this turn
            counts["norm"] = sum(others[name] for name in NORMS)
            times = alternate(sides, bench.rounds)
        timed = measure_attention(
            [attention], [point], thread_count=bench.threads, round_count=bench.rounds, run_s=overhead.bare_run_s
        )
        attended = next(time for time in timed if time.kv_bits == 32)
        rest = sum(count for name, count in others.items() if name not in (*NORMS, "GroupQueryAttention"))
        fixed_s = others["GroupQueryAttention"] * attended.time_s + rest * node_s
        total = sum(times[name] * count for name, count in counts.items()) + fixed_s
        facts = {"decode_s": float(np.median(times["decode"])), "kernels_s": float(np.median(total))}
        each = {name: [counts[name], float(np.median(times[name]))] for name in counts}
        each |= {"attention": [others["GroupQueryAttention"], attended.time_s], "other nodes": [rest, node_s]}
        bench.judge(
            "kernels", f"decode {precision} / its kernels", times["decode"] / total, LIMIT, kernels=each, **facts
        )


def chain(product: Product, folder: Path, threads: int, node_s: float, run_s: float) -> Side:
    """Seconds of one product in a chain that streams from memory, its fixed costs taken off."""
    group = ChainGroup((product.in_features, product.out_features), None, 1, is_cached=False)
    cache_bytes = last_level_cache_bytes(read_cpu().caches)
    count = streaming_length(product.kernel, group, cache_bytes, MOST_BYTES) or MOST_SITES
    folder.mkdir()
    graph = site_chain(
        product.kernel, in_features=product.in_features, out_features=product.out_features, site_count=count
    )
    bound = BoundGraph(graph.write(folder), thread_count=threads)
    bound.bind_rows(1)
    fixed_s = run_s + (count - 1) * node_s * (product.in_features != product.out_features)

    def measured() -> float:
        return max(bound.time(1) - fixed_s, 0.0) / count

    return measured
