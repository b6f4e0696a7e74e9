"""Resident memory: what weights occupy while and after loading, the KV cache, activations, and the session itself.

Takes a device profile; gives intervals in bytes of *model memory*, the floor apart. Weights are stored bytes times
the fractions the profile measured for their kernel (prepacking makes them differ from one). The KV cache is
2 x KV heads x head_dim x context x 4 bytes a block (1 where it has 8 bits), preallocated once and updated in place.
Activations are those of one prefill chunk.
"""

from edgeprune.predict.interval import Interval, add, spread
from edgeprune.predict.structure import Parts
from edgeprune.schema.budget import Workload
from edgeprune.schema.device import DeviceProfile, KernelMemory
from edgeprune.schema.kernel import FLOAT16, parse_kernel
from edgeprune.schema.model import BlockSpec, ModelSpec

__all__ = ["MemoryModel", "activation_bytes", "gathered_bytes", "kv_cache_bytes", "logits_bytes"]

FLOAT_BYTES = 4
MEASURED_SPREAD = 0.05
NODE_BYTES = 9_000
"""What a node adds to a session (graph node, kernel, allocation plan) where the profile did not measure it."""
SESSION_BYTES = 2_500_000
"""What a session of a real graph adds over the floor's one-node session where the profile did not measure it."""
ASSUMED_SPREAD = 0.5
MAPPED_AROUND_BYTES = 262_144
"""Pages that become resident around a row looked up. Linux maps at least 64 KiB (`fault_around_bytes`), and as much as
the folio the file was read into holds; 200 to 300 kB were seen for tables of 15 to 98 MB."""
LEAST_AROUND_BYTES = 65_536
READ_AROUND_BYTES = 2_500_000
"""At most what reading the head from the file makes resident beside it: folios reach up to 2 MiB beyond either end."""


class MemoryModel:
    """Bytes of weights and nodes on one device."""

    def __init__(self, device: DeviceProfile) -> None:
        """Read the measured fractions and overheads; what is missing is assumed with a wide range."""
        self._fractions = {entry.kernel: entry for entry in device.kernel_memory}
        overhead = device.overhead
        self._node_bytes = None if overhead is None else overhead.node_bytes
        self._session_bytes = None if overhead is None else overhead.session_bytes

    def weights(self, kernel: str, tensor_bytes: int) -> tuple[Interval, Interval]:
        """Resident bytes and loading peak of stored weights."""
        entry = self._fractions.get(kernel) or self._nearest(kernel)
        if entry is None:
            size = float(tensor_bytes)
            if kernel == FLOAT16:
                # Widened to 32 bits at load, beside the 16-bit pages they were read from; 2.34 was seen on x86.
                widened = Interval(2.3 * size, 2.0 * size, 3.0 * size)
                return widened, widened
            # Nothing measured: the weights stay once, and prepacking holds at most a second copy while loading.
            return Interval(size, size, 2.0 * size), Interval(1.5 * size, size, 2.2 * size)
        resident = spread(tensor_bytes * entry.resident_fraction, MEASURED_SPREAD)
        peak = max(entry.peak_fraction, entry.resident_fraction)
        return resident, spread(tensor_bytes * peak, MEASURED_SPREAD)

    def tables(self, kernel: str, *, table_bytes: int, tokens: int) -> tuple[Interval, Interval]:
        """Head and embedding of `table_bytes` each, also where they are one table on disk.

        The head is prepared like any matrix; while that is done, the file's pages it is read from are resident too, and
        no other matrix has as many. Their folios bring along up to a third of a table of 1 to 8 MB, and
        no more bytes than that of one of 98 MB. The embedding stays mapped, and each row looked up makes the pages
        around it resident.
        """
        resident, loading = self.weights(kernel, table_bytes)
        looked_up = Interval(
            gathered_bytes(table_bytes, tokens=tokens, around_bytes=MAPPED_AROUND_BYTES),
            gathered_bytes(table_bytes, tokens=tokens, around_bytes=LEAST_AROUND_BYTES),
            float(table_bytes),
        )
        running = add(resident, looked_up)
        around = min(0.15 * table_bytes, READ_AROUND_BYTES)
        most = min(0.35 * table_bytes, 2.0 * READ_AROUND_BYTES)
        reading = add(loading, Interval(table_bytes + around, float(table_bytes), table_bytes + most))
        assert running is not None  # both parts always have a value
        assert reading is not None
        return running, reading

    def plain(self, tensor_bytes: int) -> tuple[Interval, Interval]:
        """Tensors no kernel repacks, such as norms and position tables."""
        size = spread(float(tensor_bytes), MEASURED_SPREAD)
        return size, size

    def nodes(self, parts: Parts) -> Interval:
        """What the nodes of a piece add to the session."""
        if self._node_bytes is None:
            return spread(float(parts.nodes * NODE_BYTES), ASSUMED_SPREAD)
        return spread(float(parts.nodes * self._node_bytes), MEASURED_SPREAD)

    def session(self) -> Interval:
        """What a session adds once, beyond the floor's."""
        if self._session_bytes is None:
            return spread(float(SESSION_BYTES), ASSUMED_SPREAD)
        return spread(float(self._session_bytes), MEASURED_SPREAD)

    def _nearest(self, kernel: str) -> KernelMemory | None:
        """A measured kernel of the same operator and bits: block size hardly changes how weights are packed."""
        asked = parse_kernel(kernel)
        for name in sorted(self._fractions):
            known = parse_kernel(name)
            if (known.kind, known.bits, known.accuracy_level) == (asked.kind, asked.bits, asked.accuracy_level):
                return self._fractions[name]
        return None


def kv_cache_bytes(block: BlockSpec, *, context_tokens: int) -> int:
    """Keys and values of one block for the whole context; their scales are stored with the weights."""
    return 2 * block.num_kv_heads * block.head_dim * context_tokens * block.kv_bits // 8


def gathered_bytes(table_bytes: int, *, tokens: int, around_bytes: int) -> float:
    """Expected resident bytes of a mapped table after looking up that many rows, spread evenly."""
    if table_bytes <= around_bytes:
        return float(table_bytes)
    return table_bytes * (1.0 - (1.0 - around_bytes / table_bytes) ** tokens)


def logits_bytes(*, vocab_size: int, workload: Workload) -> int:
    """Logits of one prefill chunk, float32."""
    return min(workload.prefill_chunk_tokens, workload.context_tokens) * vocab_size * FLOAT_BYTES


def activation_bytes(spec: ModelSpec, workload: Workload) -> int:
    """Intermediates of one prefill chunk apart from the logits: the widest moment of the widest block.

    Either attention scores [heads, rows, context] beside queries, keys and values, or the MLP's gate, up and their
    product, each beside two hidden states; widths are the dense model's, so that the figure is the same for every
    recipe (channel pruning lowers it by at most 1 MB at 128 rows and 2,048 channels).
    """
    rows = min(workload.prefill_chunk_tokens, workload.context_tokens)
    widest = 0
    for block in spec.blocks:
        heads = block.num_heads * workload.context_tokens
        projections = (2 * block.num_heads + 2 * block.num_kv_heads) * block.head_dim
        mlp = (3 if spec.is_gated else 2) * block.intermediate_size
        widest = max(widest, heads + projections, mlp)
    return rows * (widest + 2 * spec.hidden_size) * FLOAT_BYTES
