"""Small synthetic models, devices and scores whose every number is set here, for predict, search and report tests."""

from collections.abc import Sequence

import numpy as np

from edgeprune.schema.budget import Workload
from edgeprune.schema.device import (
    AttentionTime,
    CacheInfo,
    CpuInfo,
    DeviceProfile,
    Floor,
    KernelMemory,
    KernelTime,
    MemoryInfo,
    RuntimeInfo,
    RuntimeOverhead,
)
from edgeprune.schema.kernel import parse_kernel, stored_bytes
from edgeprune.schema.model import BlockSpec, ModelSpec, SiteRole, SiteSpec, site_name
from edgeprune.schema.recipe import Drops
from edgeprune.schema.scores import (
    CacheOption,
    CalibrationSummary,
    DepthOption,
    ScoreArrays,
    Scores,
    TextLoss,
    VocabularyOption,
)
from edgeprune.shapes import count_parameters

KERNELS = ("fp32", "fp16", "int8_b32_a4", "int8_b32_a0", "int4_b32_a4", "int4_b128_a4")

KERNEL_NOISE = {
    "fp32": 0.0,
    "fp16": 1e-7,
    "int8_b32_a4": 1e-4,
    "int8_b32_a0": 1e-4,
    "dynamic_int8": 1e-4,
    "int4_b32_a4": 2e-2,
    "int4_b128_a4": 4e-2,
}
"""Relative error energy of each kernel."""

SECONDS_PER_BYTE = {
    "fp32": 1.0,
    "fp16": 2.1,
    "int8_b32_a4": 0.9,
    "int8_b32_a0": 8.0,
    "dynamic_int8": 0.5,
    "int4_b32_a4": 1.0,
    "int4_b128_a4": 0.8,
}
"""Relative to reading the stored bytes at 10 GB/s."""


def make_spec(
    *,
    blocks: int = 3,
    hidden: int = 64,
    heads: int = 4,
    kv_heads: int = 2,
    intermediate: int = 176,
    vocab: int = 512,
    is_gated: bool = True,
    max_positions: int = 256,
    has_bias: bool = False,
) -> ModelSpec:
    """A Llama-like model, tied."""
    head_dim = hidden // heads
    kv = kv_heads * head_dim

    def site(index: int, role: SiteRole, rows: int, columns: int) -> SiteSpec:
        return SiteSpec(
            name=site_name(index, role), role=role, in_features=rows, out_features=columns, has_bias=has_bias
        )

    def block(index: int) -> BlockSpec:
        sites = [
            site(index, "q", hidden, hidden),
            site(index, "k", hidden, kv),
            site(index, "v", hidden, kv),
            site(index, "o", hidden, hidden),
        ]
        if is_gated:
            sites.append(site(index, "gate", hidden, intermediate))
        sites += [site(index, "up", hidden, intermediate), site(index, "down", intermediate, hidden)]
        return BlockSpec(
            index=index,
            num_heads=heads,
            num_kv_heads=kv_heads,
            head_dim=head_dim,
            intermediate_size=intermediate,
            sites=tuple(sites),
            norm_parameter_count=2 * hidden,
        )

    spec = ModelSpec(
        name="synthetic",
        model_hash="0" * 64,
        model_type="llama",
        family="llama",
        architecture="LlamaForCausalLM",
        hidden_size=hidden,
        vocab_size=vocab,
        max_positions=max_positions,
        is_tied=True,
        position_kind="rotary",
        rotary_dim=head_dim,
        norm_kind="rms",
        norm_epsilon=1e-5,
        activation="silu",
        is_gated=is_gated,
        blocks=tuple(block(index) for index in range(blocks)),
        final_norm_parameter_count=hidden,
        source_dtype="bfloat16",
        source_bytes=0,
        parameter_count=0,
        tokenizer_bytes=40 * vocab,
        license="Apache-2.0",
    )
    count = count_parameters(spec)
    values = {name: getattr(spec, name) for name in spec.__struct_fields__}
    return ModelSpec(**values | {"parameter_count": count, "source_bytes": 2 * count})


def kernel_times(
    *,
    kernels: Sequence[str] = KERNELS,
    seconds_per_byte: dict[str, float] | None = None,
    streaming_penalty: float = 3.0,
) -> tuple[KernelTime, ...]:
    """A grid in which a site takes a fixed 2 us and a time proportional to its stored bytes."""
    factors = SECONDS_PER_BYTE | (seconds_per_byte or {})
    points = []
    for kernel in kernels:
        for rows in (1, 128, 512):
            for shape in ((32, 32), (64, 64), (64, 176), (176, 64), (256, 256), (256, 704), (704, 256), (1024, 4096)):
                size = stored_bytes(kernel, in_features=shape[0], out_features=shape[1])
                for is_cached in (True, False):
                    slow = 1.0 if is_cached else streaming_penalty
                    time_s = 2e-6 + size * factors[kernel] * 1e-10 * slow * (1 if rows == 1 else rows / 8)
                    points.append(
                        KernelTime(
                            kernel=kernel,
                            rows=rows,
                            in_features=shape[0],
                            out_features=shape[1],
                            rank=None,
                            is_cached=is_cached,
                            time_s=time_s,
                        )
                    )
    return tuple(points)


def make_device(
    *,
    kernels: Sequence[str] = KERNELS,
    seconds_per_byte: dict[str, float] | None = None,
    cache_bytes: int = 32 << 20,
    floor_bytes: int | None = 60_000_000,
    is_datasheet: bool = False,
    name: str = "bench",
) -> DeviceProfile:
    """A measured device, or a data sheet with a bandwidth and nothing else."""
    cpu = CpuInfo(
        model="synthetic",
        architecture="x86_64",
        physical_core_count=2,
        logical_core_count=2,
        usable_core_count=2,
        instruction_sets=("avx2",),
        caches=(CacheInfo(level=3, kind="unified", size_bytes=cache_bytes, instance_count=1),),
    )
    memory = MemoryInfo(total_bytes=4_000_000_000, usable_bytes=4_000_000_000, available_bytes=None)
    runtime = RuntimeInfo(onnxruntime_version=None if is_datasheet else "1.31.0", execution_providers=())
    if is_datasheet:
        return DeviceProfile(
            name=name, basis="datasheet", cpu=cpu, memory=memory, runtime=runtime, peak_bandwidth_bytes_per_s=17e9
        )
    return DeviceProfile(
        name=name,
        basis="measured",
        cpu=cpu,
        memory=memory,
        runtime=runtime,
        thread_count=2,
        kernel_times=kernel_times(kernels=kernels, seconds_per_byte=seconds_per_byte),
        attention_times=tuple(
            AttentionTime(
                rows=rows,
                past_tokens=past,
                num_heads=4,
                num_kv_heads=2,
                head_dim=64,
                time_s=1e-5 * rows**0.5 + 2e-8 * past * rows**0.5,
            )
            for rows in (1, 128)
            for past in (0, 256, 1024)
        ),
        kernel_memory=tuple(
            KernelMemory(
                kernel=kernel,
                resident_fraction=1.0 if parse_kernel(kernel).kind == "float" else 1.1,
                peak_fraction=1.2 if parse_kernel(kernel).kind == "float" else 1.6,
            )
            for kernel in kernels
        ),
        overhead=RuntimeOverhead(node_s=2e-6, run_s=2e-5, binding_s=1e-6, norm_s_per_element=2e-9),
        floor=None if floor_bytes is None else Floor(peak_rss_bytes=floor_bytes, anonymous_bytes=None),
    )


def make_scores(
    spec: ModelSpec,
    *,
    kernels: Sequence[str] = KERNELS,
    seed: int = 0,
    channel_counts: Sequence[int] = (),
    group_counts: Sequence[int] = (),
    depth: Sequence[tuple[int, ...] | Drops] = (),
    vocabulary: Sequence[int] = (),
    methods: Sequence[str] = ("lowrank", "laser"),
) -> tuple[Scores, ScoreArrays]:
    """Losses that fall with rank like a random spectrum and rise with the kernel's rounding noise."""
    rng = np.random.default_rng(seed)
    arrays: ScoreArrays = {}
    for position, block in enumerate(spec.blocks):
        for site in block.sites:
            energy = rng.uniform(0.02, 0.4) * (1.5 if position in (0, len(spec.blocks) - 1) else 1.0)
            size = min(site.in_features, site.out_features)
            spectrum = np.exp(-np.arange(size) * rng.uniform(1.0, 6.0) / size)
            left = np.append(np.cumsum(spectrum[::-1])[::-1], 0.0) / spectrum.sum()
            for offset, method in enumerate(methods):
                arrays[f"rank_loss/{method}/{site.name}"] = energy * left * (1.0 + 0.3 * offset)
            arrays[f"kernel_loss/{site.name}"] = np.array([energy * KERNEL_NOISE[kernel] for kernel in kernels])
        counts = [*channel_counts]
        if counts:
            weight = rng.uniform(0.05, 0.5)
            arrays[f"channel_loss/{block.index}"] = np.array(
                [weight * (1.0 - count / block.intermediate_size) ** 1.5 for count in counts]
            )
        if group_counts:
            worth = rng.uniform(0.05, 0.5)
            arrays[f"group_loss/{block.index}"] = np.array(
                [worth * (1.0 - count / block.num_kv_heads) ** 1.5 for count in group_counts]
            )
    arrays["kernel_loss/table"] = np.array([0.5 * KERNEL_NOISE[kernel] for kernel in kernels])
    scores = Scores(
        model_hash=spec.model_hash,
        seed=seed,
        calibration=CalibrationSummary(
            domain_token_count=20_000,
            general_token_count=10_000,
            document_count=100,
            stability=0.05,
            sequence_tokens=128,
            data_hash="1" * 64,
            edits_hash="2" * 64,
            general_source="generated by the model (seed 0)",
        ),
        dense_losses=(TextLoss(text="domain.selection", loss_nats=3.0, bits_per_byte=1.2, token_count=5_000),),
        kernels=tuple(kernels),
        rank_methods=tuple(methods),
        channel_counts=tuple(tuple(sorted(channel_counts)) for _ in spec.blocks) if channel_counts else (),
        group_counts=tuple(tuple(sorted(group_counts)) for _ in spec.blocks) if group_counts else (),
        depth=tuple(
            DepthOption(
                drop_blocks=drops.blocks,
                drop_attention=drops.attention,
                drop_mlp=drops.mlp,
                loss_increase_nats=0.15 * drops.block_count**1.3,
                selector="lorp",
            )
            for drops in (drop if isinstance(drop, Drops) else Drops(blocks=drop) for drop in depth)
        ),
        vocabulary=tuple(
            VocabularyOption(
                kept_count=count,
                loss_increase_nats=0.05 * (1.0 - count / spec.vocab_size),
                token_inflation=2.0 - count / spec.vocab_size,
            )
            for count in vocabulary
        ),
        cache=CacheOption(kv_bits=8, loss_increase_nats=0.002),
    )
    return scores, arrays


def make_workload(spec: ModelSpec) -> Workload:
    """Half of the positions as context."""
    return Workload(context_tokens=spec.max_positions // 2, prefill_chunk_tokens=32, decode_tokens=16)
