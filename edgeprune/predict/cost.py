"""`CostModel`: what a recipe costs on a device, whole and in the separable pieces the solver chooses from.

    cost(recipe) = fixed_price + table_price(vocabulary, kernel) + sum over kept blocks (block_price + site prices)
                   + repair_price(ranks of the repairs)

Takes a device profile, the dense model's shapes and a workload; never a bundle, never a weight. What a piece costs
does not depend on the other pieces, with two exceptions that `Price` keeps as sums: see there.
"""

import copy
from collections.abc import Sequence

from msgspec.structs import replace

from edgeprune.predict import disk
from edgeprune.predict.cache_share import CacheShare
from edgeprune.predict.corrected import CorrectedLatency, CorrectedMemory
from edgeprune.predict.interval import Interval, add, as_estimate, scale
from edgeprune.predict.latency import Chunk, decode_chunk, prefill_chunks
from edgeprune.predict.memory import activation_bytes, kv_cache_bytes, logits_bytes
from edgeprune.predict.packed import ALONE, Share, joined_counts, packed_shares, priced_sites
from edgeprune.predict.price import Price
from edgeprune.predict.structure import block_parts, fixed_parts, repair_addition_parts, site_parts, table_parts
from edgeprune.schema.base import Basis
from edgeprune.schema.budget import Workload
from edgeprune.schema.correction import CorrectedQuantity
from edgeprune.schema.device import DeviceProfile
from edgeprune.schema.estimate import Cost, Estimate
from edgeprune.schema.kernel import FLOAT16, FLOAT32
from edgeprune.schema.model import NEURON_ROLES, BlockSpec, ModelSpec, SiteForm, SiteSpec
from edgeprune.schema.recipe import Recipe
from edgeprune.schema.scores import Scores
from edgeprune.shapes import edit_shapes, site_parameter_count, stored_matrices

__all__ = ["CostModel"]


class CostModel:
    """Prices of one model's pieces on one device for one workload."""

    def __init__(
        self, device: DeviceProfile, dense: ModelSpec, workload: Workload, *, scores: Scores | None = None
    ) -> None:
        """Prepare the device's tables; prices are computed on demand and kept.

        Args:
            device: what is priced.
            dense: shapes of the dense model.
            workload: lengths and threads.
            scores: tell how large trimmed tokenizers are; None scales the whole one.
        """
        self.dense = dense
        self.workload = workload
        self.floor_bytes: int | None = None if device.floor is None else device.floor.peak_rss_bytes
        self._has_accelerator = bool(device.accelerators)
        self._memory = CorrectedMemory(device)
        self._latency = CorrectedLatency(device)
        factors = () if device.corrections is None else device.corrections.factors
        self._corrected = frozenset(factor.quantity for factor in factors)
        options = () if scores is None else scores.vocabulary
        self._tokenizers = {
            option.kept_count: option.tokenizer_bytes for option in options if option.tokenizer_bytes is not None
        }
        self._cache = CacheShare(device)
        self._packed = packed_shares(dense)
        self._joined = joined_counts(dense)
        self._decode: tuple[Chunk, ...] = (decode_chunk(workload),)
        self._prefill = prefill_chunks(workload)
        self._sites: dict[tuple[int, int, bool, str, int | None, SiteForm, bool, Share, int], Price] = {}
        self._blocks: dict[tuple[int, int, int, int, int, int], Price] = {}

    def at_context(self, context_tokens: int) -> "CostModel":
        """The same for another context length; what was read of the device's tables is shared."""
        other = copy.copy(self)
        other.workload = replace(self.workload, context_tokens=context_tokens)
        other._decode, other._prefill = (decode_chunk(other.workload),), prefill_chunks(other.workload)
        other._sites, other._blocks = {}, {}
        return other

    @property
    def timed_kernels(self) -> frozenset[str] | None:
        """Kernels the device has timed; None when it timed none, so that any kernel may be estimated."""
        return self._latency.kernels

    def cached_fraction(self, working_set_bytes: int) -> float:
        """Share of the weights that stays in the last-level cache from token to token."""
        return self._cache.fraction(working_set_bytes)

    def working_set_limit(self, cached_fraction: float) -> float | None:
        """Largest working set with at least that cached fraction; None when any size has it."""
        return self._cache.limit(cached_fraction)

    def site_price(
        self, site: SiteSpec, *, kernel: str, rank: int | None, share: Share | None = None, joined: int | None = None
    ) -> Price:
        """One site at a rank, stored in its own form; its own `kernel` and `rank` are ignored.

        `share` and `joined` say what it stands in one product with; None is what the dense model's sites do.
        """
        is_neurons = site.form == "pivot" and site.role in NEURON_ROLES
        if share is None:
            share = self._packed.get(site.name, ALONE) if rank is None else ALONE
            share = share if share.holds(kernel) else ALONE
        if joined is None:
            joined = self._joined.get(site.name, 1) if rank is not None else 1
        key = (site.in_features, site.out_features, site.has_bias, kernel, rank, site.form, is_neurons, share, joined)
        if key not in self._sites:
            self._sites[key] = self._site_price(site, kernel=kernel, rank=rank, share=share, joined=joined)
        return self._sites[key]

    def block_price(self, block: BlockSpec) -> Price:
        """A kept block without its sites: norms, attention, activation, KV cache."""
        key = (
            block.intermediate_size, block.num_heads, block.num_kv_heads, block.head_dim, block.norm_parameter_count,
            block.kv_bits,
        )  # fmt: skip
        if key not in self._blocks:
            self._blocks[key] = self._block_price(block)
        return self._blocks[key]

    def repair_price(self, ranks: Sequence[int]) -> Price:
        """Affine operators of these ranks in the place of dropped parts: two products and two additions each."""
        total = Price()
        for rank in ranks:
            width = self.dense.hidden_size
            operator = SiteSpec(name="repair", role="o", in_features=width, out_features=width, has_bias=True)
            parts = repair_addition_parts()
            times = [
                add(self._latency.nodes(parts.other_nodes, chunks), self._latency.elements(width, chunks))
                for chunks in (self._decode, self._prefill)
            ]
            addition = Price(
                disk_bytes=parts.graph_bytes,
                session_bytes=self._memory.nodes(parts),
                decode_cached_s=times[0],
                decode_streaming_s=times[0],
                prefill_cached_s=times[1],
                prefill_streaming_s=times[1],
            )
            total = total + self.site_price(operator, kernel=FLOAT32, rank=rank) + addition
        return total

    def table_price(self, *, vocab_size: int, kernel: str) -> Price:
        """Embedding, head, logits and tokenizer."""
        spec = self.dense
        tensors = disk.table_tensor_bytes(spec, vocab_size=vocab_size, kernel=kernel)
        one = tensors if spec.is_tied else tensors // 2
        parts = table_parts(kernel)
        resident, loading = self._memory.tables(kernel, table_bytes=one, tokens=self.workload.context_tokens)
        times = {
            (name, is_cached): add(
                self._latency.site(
                    kernel,
                    chunks,
                    in_features=spec.hidden_size,
                    out_features=vocab_size,
                    rank=None,
                    read_bytes=_read_bytes(kernel, one),
                    is_cached=is_cached,
                ),
                self._latency.nodes(parts.other_nodes, chunks),
            )
            for name, chunks in (("decode", self._decode), ("prefill", self._prefill))
            for is_cached in (True, False)
        }
        return Price(
            disk_bytes=tensors + parts.graph_bytes + self._tokenizer_bytes(vocab_size),
            weights_bytes=tensors,
            parameter_count=vocab_size * spec.hidden_size * (1 if spec.is_tied else 2),
            working_set_bytes=_read_bytes(kernel, one),
            activation_bytes=logits_bytes(vocab_size=vocab_size, workload=self.workload),
            resident_bytes=resident,
            loading_bytes=loading,
            session_bytes=self._memory.nodes(parts),
            decode_cached_s=times["decode", True],
            decode_streaming_s=times["decode", False],
            prefill_cached_s=times["prefill", True],
            prefill_streaming_s=times["prefill", False],
        )

    def _tokenizer_bytes(self, vocab_size: int) -> int:
        return disk.tokenizer_bytes(self.dense, vocab_size=vocab_size, written=self._tokenizers)

    def fixed_price(self) -> Price:
        """What every recipe pays: final norm, positions, configuration, session, one start a chunk."""
        spec = self.dense
        parts = fixed_parts(spec)
        tensors = disk.fixed_tensor_bytes(spec, context_tokens=self.workload.context_tokens)
        resident, loading = self._memory.plain(tensors)
        decode, prefill = (
            add(
                add(self._latency.runs(chunks), self._latency.nodes(parts.other_nodes, chunks)),
                self._latency.elements(spec.hidden_size, chunks),
            )
            for chunks in (self._decode, self._prefill)
        )
        session = add(self._memory.session(), self._memory.nodes(parts))
        assert session is not None  # both parts always have a value
        return Price(
            disk_bytes=tensors + disk.CONFIG_BYTES + parts.graph_bytes,
            weights_bytes=tensors,
            parameter_count=spec.final_norm_parameter_count + spec.position_parameter_count,
            activation_bytes=activation_bytes(spec, self.workload),
            resident_bytes=resident,
            loading_bytes=loading,
            session_bytes=session,
            decode_cached_s=decode,
            decode_streaming_s=decode,
            prefill_cached_s=prefill,
            prefill_streaming_s=prefill,
        )

    def price(self, recipe: Recipe) -> Price:
        """Sum of the prices of a recipe's pieces.

        Raises:
            UsageError: the recipe does not fit the model.
        """
        return self.edited_price(edit_shapes(self.dense, recipe))

    def edited_price(self, edited: ModelSpec) -> Price:
        """The same of shapes that are edited already, such as a bundle's."""
        total = self.fixed_price() + self.table_price(vocab_size=edited.vocab_size, kernel=edited.table_kernel)
        for block in edited.blocks:
            total += self.block_price(block)
            for site, share, joined in priced_sites(block, hidden_size=self.dense.hidden_size):
                total += self.site_price(site, kernel=site.kernel, rank=site.rank, share=share, joined=joined)
        ranks = [block.repair_rank for block in edited.blocks if block.repair_rank is not None]
        return total + self.repair_price(ranks)

    def cost(self, recipe: Recipe) -> Cost:
        """Predicted bytes and seconds of a recipe.

        Raises:
            UsageError: the recipe does not fit the model.
        """
        return self.edited_cost(edit_shapes(self.dense, recipe))

    def edited_cost(self, edited: ModelSpec) -> Cost:
        """The same of shapes that are edited already."""
        total = self.edited_price(edited)
        share = self.cached_fraction(total.working_set_bytes)
        loading, running = total.loading_memory, total.running_memory
        memory = Interval(
            max(loading.value, running.value), max(loading.low, running.low), max(loading.high, running.high)
        )
        decode, prefill = total.decode_s(share), total.prefill_s(share)
        whole = add(prefill, scale(decode, float(self.workload.decode_tokens)))
        return Cost(
            disk_bytes=total.disk_bytes,
            weights_bytes=total.weights_bytes,
            kv_cache_bytes=total.kv_cache_bytes,
            activation_bytes=total.activation_bytes,
            resident_weights_bytes=as_estimate(total.resident_bytes, basis=self._basis("memory")),
            model_memory_bytes=as_estimate(memory, basis=self._basis("memory")),
            peak_rss_bytes=self._with_floor(memory),
            decode_s=as_estimate(decode, basis=self._basis("decode")),
            prefill_s=as_estimate(prefill, basis=self._basis("prefill")),
            request_s=as_estimate(whole, basis=self._basis("decode")),
            parameter_count=total.parameter_count,
            device_memory_bytes=self._on_device(total),
        )

    def _on_device(self, total: Price) -> Estimate:
        if not self._has_accelerator:
            return Estimate(value=None)
        return Estimate(value=total.device_bytes, low=total.device_bytes)

    def _with_floor(self, memory: Interval) -> Estimate:
        floor = self.floor_bytes
        if floor is None:
            return as_estimate(None)
        whole = Interval(floor + memory.value, floor + memory.low, floor + memory.high)
        return as_estimate(whole, basis=self._basis("memory"))

    def _basis(self, quantity: CorrectedQuantity) -> Basis:
        return "corrected" if quantity in self._corrected else "estimated"

    def _site_price(self, site: SiteSpec, *, kernel: str, rank: int | None, share: Share, joined: int) -> Price:
        tensors = disk.site_tensor_bytes(site, kernel=kernel, rank=rank)
        stored = replace(site, rank=rank)
        parts = site_parts(kernel, stored)
        resident, loading = self._memory.weights(kernel, tensors)
        ratio = share.ratio
        width, height, inner = site.in_features, site.out_features, rank
        matrices = stored_matrices(width, height, rank, site.form)
        if len(matrices) == 1:
            # A factor alone is one matrix.
            (width, height), inner = matrices[0], None

        def time_s(chunks: tuple[Chunk, ...], *, is_cached: bool) -> Interval | None:
            matrix = self._latency.site(
                kernel,
                chunks,
                in_features=width,
                out_features=round(ratio * height),
                rank=inner,
                read_bytes=round(ratio * _read_bytes(kernel, tensors)),
                is_cached=is_cached,
                form=site.form,
            )
            matrix = add(scale(matrix, 1.0 / ratio), scale(self._latency.nodes(1, chunks), share.split_nodes))
            if inner is not None and joined > 1:
                matrix = add(
                    matrix,
                    self._latency.joining(
                        kernel, chunks, in_features=site.in_features, rank=inner, count=joined, is_cached=is_cached
                    ),
                )
            if stored.has_row_order:
                matrix = add(matrix, self._latency.reordering(site.out_features, chunks))
            return add(matrix, self._latency.nodes(parts.other_nodes, chunks))

        return Price(
            disk_bytes=tensors + parts.graph_bytes,
            weights_bytes=tensors,
            parameter_count=site_parameter_count(stored),
            working_set_bytes=_read_bytes(kernel, tensors),
            resident_bytes=resident,
            loading_bytes=loading,
            session_bytes=self._memory.nodes(parts),
            decode_cached_s=time_s(self._decode, is_cached=True),
            decode_streaming_s=time_s(self._decode, is_cached=False),
            prefill_cached_s=time_s(self._prefill, is_cached=True),
            prefill_streaming_s=time_s(self._prefill, is_cached=False),
        )

    def _block_price(self, block: BlockSpec) -> Price:
        parts = block_parts(self.dense, block)
        tensors = disk.block_tensor_bytes(block)
        resident, loading = self._memory.plain(tensors)
        width = (block.has_attention + block.has_mlp) * self.dense.hidden_size + block.intermediate_size

        def time_s(chunks: tuple[Chunk, ...], *, is_cached: bool) -> Interval | None:
            attention = self._latency.attention(block, chunks, is_cached=is_cached)
            total = add(attention, self._latency.nodes(parts.other_nodes, chunks))
            total = add(total, self._latency.elements(width, chunks))
            return add(total, self._latency.binding(parts.bindings, chunks))

        cache = kv_cache_bytes(block, context_tokens=self.workload.context_tokens)
        prefill = time_s(self._prefill, is_cached=True)
        return Price(
            disk_bytes=tensors + parts.graph_bytes,
            weights_bytes=tensors,
            parameter_count=block.norm_parameter_count,
            working_set_bytes=tensors + cache,
            kv_cache_bytes=cache,
            resident_bytes=resident,
            loading_bytes=loading,
            session_bytes=self._memory.nodes(parts),
            decode_cached_s=time_s(self._decode, is_cached=True),
            decode_streaming_s=time_s(self._decode, is_cached=False),
            prefill_cached_s=prefill,
            prefill_streaming_s=prefill,
        )


def _read_bytes(kernel: str, tensor_bytes: int) -> int:
    """Bytes a product reads of its weights: 16-bit weights are widened to 32 bits when they are loaded."""
    return 2 * tensor_bytes if kernel == FLOAT16 else tensor_bytes
