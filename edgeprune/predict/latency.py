"""Seconds per decoded token and per prompt, piece by piece.

    decode_s = run_s + binding_s * KV pairs + sum over sites t(kernel, 1 row, shape, rank)
             + sum over blocks (attention at the end of the context + other nodes * node_s + norms)

and the same with as many rows as a prefill chunk has, once a chunk. Takes the device profile and the workload, gives
intervals; a profile without a kernel table is priced by `roofline`.
"""

from edgeprune.predict.attention_table import AttentionTable
from edgeprune.predict.interval import ZERO, Interval, add, scale, spread
from edgeprune.predict.kernel_table import KernelTable
from edgeprune.predict.roofline import NODE, Roofline
from edgeprune.schema.budget import Workload
from edgeprune.schema.device import DeviceProfile
from edgeprune.schema.model import BlockSpec, SiteForm

__all__ = ["Chunk", "LatencyModel", "decode_chunk", "prefill_chunks"]

OVERHEAD_SPREAD = 0.3
"""Fixed costs are a few microseconds; two profiles agree within about a third."""
REORDER_LOOKUP = 6.0
REORDER_ELEMENT = 0.5
REORDER_SPREAD = 0.5
"""Where a norm takes 1.4 ns an element, looking up an output took 8 ns, and moving one 0.4 to 1.2 ns (256 to 2,048
outputs, 1 to 128 rows, one core)."""

Chunk = tuple[int, int]
"""Rows computed at once, and past tokens before them."""


def decode_chunk(workload: Workload) -> Chunk:
    """One token in the middle of those decoded up to the end of the context."""
    return 1, max(0, workload.context_tokens - max(1, workload.decode_tokens // 2))


def prefill_chunks(workload: Workload) -> tuple[Chunk, ...]:
    """The pieces in which a prompt is fed that leaves room for the decoded tokens."""
    length = max(1, workload.context_tokens - workload.decode_tokens)
    step = workload.prefill_chunk_tokens
    return tuple((min(step, length - start), start) for start in range(0, length, step))


class LatencyModel:
    """Times of the pieces of a graph on one device."""

    def __init__(self, device: DeviceProfile) -> None:
        """Index the profile's tables."""
        self._table = KernelTable(device.kernel_times)
        self._attention = AttentionTable(device.attention_times)
        self._roofline = Roofline(device)
        overhead = device.overhead
        self._node_s = None if overhead is None else overhead.node_s
        self._run_s = None if overhead is None else overhead.run_s
        self._binding_s = None if overhead is None else overhead.binding_s
        self._norm_s = None if overhead is None else overhead.norm_s_per_element

    @property
    def kernels(self) -> frozenset[str] | None:
        """Kernels the device has timed; None when it timed none, so that any may be estimated."""
        return self._table.kernels or None

    def site(
        self,
        kernel: str,
        chunks: tuple[Chunk, ...],
        *,
        in_features: int,
        out_features: int,
        rank: int | None,
        read_bytes: int,
        is_cached: bool,
        form: SiteForm = "factors",
    ) -> Interval | None:
        """The products of one site over these chunks."""
        total: Interval | None = ZERO
        for rows, _ in chunks:
            if self._table.kernels:
                time = self._table.time_s(
                    kernel,
                    rows=rows,
                    in_features=in_features,
                    out_features=out_features,
                    rank=rank,
                    is_cached=is_cached,
                    form=form,
                )
                if not is_cached and not self._table.has_streaming(kernel):
                    time = self._roofline.bound(time, read_bytes)
            elif rows == 1:
                time = self._roofline.time_s(read_bytes, node_count=1 if rank is None else 2)
            else:
                time = None
            total = add(total, time)
        return total

    def joining(
        self, kernel: str, chunks: tuple[Chunk, ...], *, in_features: int, rank: int, count: int, is_cached: bool
    ) -> Interval | None:
        """What a right factor takes more, in general less, where `count` of equal rank are one product and a Split."""
        if not self._table.kernels:
            return ZERO
        alone, together = (
            self.site(
                kernel,
                chunks,
                in_features=in_features,
                out_features=width,
                rank=None,
                read_bytes=0,
                is_cached=is_cached,
            )
            for width in (rank, count * rank)
        )
        if alone is None or together is None:
            return ZERO
        split = self.nodes(1, chunks)
        change_s = min(0.0, (together.value + split.value) / count - alone.value)
        return Interval(change_s, change_s, change_s)

    def attention(self, block: BlockSpec, chunks: tuple[Chunk, ...], *, is_cached: bool = True) -> Interval | None:
        """The attention node of a block over these chunks; no time where the block has none."""
        total: Interval | None = ZERO
        if not block.has_attention:
            return total
        for rows, past in chunks:
            time = self._attention.time_s(
                rows=rows,
                past_tokens=past,
                num_heads=block.num_heads,
                num_kv_heads=block.num_kv_heads,
                head_dim=block.head_dim,
                kv_bits=block.kv_bits,
                is_cached=is_cached or rows > 1,
            )
            if time is None and rows == 1:
                kv_bytes = 2 * block.num_kv_heads * block.head_dim * past * block.kv_bits // 8
                time = self._roofline.time_s(kv_bytes, node_count=1)
            total = add(total, time)
        return total

    def nodes(self, count: int, chunks: tuple[Chunk, ...]) -> Interval:
        """Fixed time of nodes that are in no table."""
        one = NODE if self._node_s is None else spread(self._node_s, OVERHEAD_SPREAD)
        return scale(one, count * len(chunks)) or ZERO

    def elements(self, width: int, chunks: tuple[Chunk, ...]) -> Interval:
        """Time that grows with the elements norms and activations touch: `width` a row."""
        if self._norm_s is None:
            return ZERO
        return spread(self._norm_s * width * sum(rows for rows, _ in chunks), OVERHEAD_SPREAD)

    def reordering(self, width: int, chunks: tuple[Chunk, ...]) -> Interval:
        """Putting `width` outputs in the order of the rows, apart from the nodes' fixed time.

        Gather looks up every output once a chunk, and two transpositions and the copy touch every element.
        """
        if self._norm_s is None:
            return ZERO
        touched = REORDER_LOOKUP * len(chunks) + REORDER_ELEMENT * sum(rows for rows, _ in chunks)
        return spread(self._norm_s * width * touched, REORDER_SPREAD)

    def binding(self, pair_count: int, chunks: tuple[Chunk, ...]) -> Interval:
        """Bound past/present pairs."""
        return spread((self._binding_s or 0.0) * pair_count * len(chunks), OVERHEAD_SPREAD)

    def runs(self, chunks: tuple[Chunk, ...]) -> Interval:
        """Starting the session once a chunk."""
        return spread((self._run_s or 0.0) * len(chunks), OVERHEAD_SPREAD)
