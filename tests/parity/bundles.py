"""Bundles of tiny random models with every kind of edit, for parity tests."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from edgeprune.calibrate.capture import capture
from edgeprune.compress.apply import compress_model
from edgeprune.export.bundle import export_bundle
from edgeprune.export.evaluation import EvaluationText
from edgeprune.intake.load import LoadedModel, load_model
from edgeprune.runtime.decode import Decoder
from edgeprune.runtime.session import open_session
from edgeprune.schema.budget import Workload
from edgeprune.schema.bundle import BundleManifest
from edgeprune.schema.events import NullProgress
from edgeprune.schema.model import MLP_ROLES, SiteForm
from edgeprune.schema.recipe import KeepChannels, KeepGroups, KeepTokens, Recipe, Repair, SiteEdit
from tests.tiny import TINY_TEXT, write_tiny_gpt2, write_tiny_llama

CONTEXT = 48
WORKLOAD = Workload(context_tokens=CONTEXT, prefill_chunk_tokens=16, thread_count=1)


@dataclass(frozen=True)
class Exported:
    dense: LoadedModel
    compressed: LoadedModel
    recipe: Recipe
    folder: Path
    manifest: BundleManifest


def tiny(folder: Path, model_type: str, **overrides: Any) -> LoadedModel:
    if model_type == "gpt2":
        return load_model(write_tiny_gpt2(folder, **overrides))
    return load_model(write_tiny_llama(folder, model_type=model_type, **overrides))


def no_edits(loaded: LoadedModel, kernel: str = "fp32") -> Recipe:
    sites = tuple(SiteEdit(name=site.name, kernel=kernel) for block in loaded.spec.blocks for site in block.sites)
    return Recipe(
        model_hash=loaded.spec.model_hash, context_tokens=CONTEXT, table_kernel=kernel, sites=sites, technique="plain"
    )


def all_edits(loaded: LoadedModel, kernel: str = "fp32") -> Recipe:
    """The middle block dropped, one block narrowed, attention output and MLP input factored, a smaller vocabulary."""
    kept = [block for block in loaded.spec.blocks if block.index != 1]
    ranks = {"qkv": 24, "k": 6, "o": 20, "up": 10}
    # Block 0 keeps its matrices whole, so that equal blocks would not go unnoticed.
    sites = tuple(
        SiteEdit(name=site.name, kernel=kernel, rank=ranks.get(site.role) if block.index == 2 else None)
        for block in kept
        for site in block.sites
    )
    return Recipe(
        model_hash=loaded.spec.model_hash,
        context_tokens=CONTEXT,
        drop_blocks=(1,),
        keep_channels=(KeepChannels(block=0, kept_count=56),),
        keep_tokens=KeepTokens(kept_count=420),
        table_kernel=kernel,
        sites=sites,
    )


def part_edits(loaded: LoadedModel, kernel: str = "fp32") -> Recipe:
    """Block 0 without attention and narrower, block 2 without MLP; what is left of them partly factored."""
    ranks = {"qkv": 24, "k": 6, "o": 20, "up": 10}
    gone = {0: ("q", "k", "v", "qkv", "o"), 2: ("gate", "up", "down")}
    sites = tuple(
        SiteEdit(name=site.name, kernel=kernel, rank=ranks.get(site.role))
        for block in loaded.spec.blocks
        for site in block.sites
        if site.role not in gone.get(block.index, ())
    )
    return Recipe(
        model_hash=loaded.spec.model_hash,
        context_tokens=CONTEXT,
        drop_attention=(0,),
        drop_mlp=(2,),
        keep_channels=(KeepChannels(block=0, kept_count=56),),
        table_kernel=kernel,
        sites=sites,
    )


def mixed_edits(loaded: LoadedModel, kernel: str = "fp32") -> Recipe:
    """Block 0 an MLP alone, narrowed on streamed inputs; block 1 with half its groups, every site of low rank in one
    form or the other; block 2 an attention alone."""
    forms: dict[str, tuple[int, SiteForm]] = {
        "q": (12, "pivot"), "k": (6, "factors"), "v": (9, "pivot"), "o": (9, "factors"),
        "gate": (45, "pivot"), "up": (10, "factors"), "down": (30, "pivot"),
    }  # fmt: skip
    sites = []
    for block in loaded.spec.blocks:
        for site in block.sites:
            if block.index == 1:
                rank, form = forms[site.role]
                sites.append(SiteEdit(name=site.name, kernel=kernel, rank=rank, form=form))
            elif (site.role in MLP_ROLES) == (block.index == 0):
                sites.append(SiteEdit(name=site.name, kernel=kernel))
    return Recipe(
        model_hash=loaded.spec.model_hash,
        context_tokens=CONTEXT,
        drop_attention=(0,),
        drop_mlp=(2,),
        keep_groups=(KeepGroups(block=1, kept_count=loaded.spec.blocks[1].num_kv_heads // 2),),
        keep_channels=(KeepChannels(block=0, kept_count=56, criterion="wanda", compensate=False),),
        table_kernel=kernel,
        sites=tuple(sites),
    )


def repairs(loaded: LoadedModel, kernel: str = "fp32") -> Recipe:
    """Block 0 and the MLP of block 1 dropped, operators in the place of both, on the inputs of blocks 1 and 2."""
    sites = tuple(
        SiteEdit(name=site.name, kernel=kernel)
        for block in loaded.spec.blocks[1:]
        for site in block.sites
        if block.index == 2 or site.role not in ("gate", "up", "down")
    )
    return Recipe(
        model_hash=loaded.spec.model_hash,
        context_tokens=CONTEXT,
        drop_blocks=(0,),
        drop_mlp=(1,),
        repairs=(Repair(block=0, rank=24), Repair(block=1, rank=9)),
        keep_tokens=KeepTokens(kept_count=420),
        table_kernel=kernel,
        sites=sites,
    )


def export(
    loaded: LoadedModel,
    recipe: Recipe,
    folder: Path,
    *,
    workload: Workload = WORKLOAD,
    last_logits: bool = False,
    activation_bits: Literal[16, 32] = 32,
) -> Exported:
    generator = torch.Generator().manual_seed(0)
    windows = torch.randint(0, 512, (16, 32), generator=generator, dtype=torch.int32)
    stats = capture(loaded, windows, gradient_tokens=0)
    compressed = compress_model(loaded, recipe, stats, progress=NullProgress())
    manifest = export_bundle(
        compressed,
        recipe,
        folder=folder,
        label="recipe",
        workload=workload,
        texts=[EvaluationText(name="domain", documents=[TINY_TEXT.strip()])],
        choices=[],
        budget=None,
        predicted=None,
        versions={},
        progress=NullProgress(),
        calibration=[TINY_TEXT.strip()] if recipe.kv_bits == 8 else (),
        last_logits=last_logits,
        activation_bits=activation_bits,
    )
    return Exported(loaded, compressed, recipe, folder, manifest)


def decoder_of(folder: Path, chunk: int = 16) -> Decoder:
    session = open_session(folder / "model.onnx", thread_count=1)
    return Decoder(session, max_tokens=CONTEXT, prefill_chunk_tokens=chunk)


def genai_tokens(exported: Exported) -> list[int]:
    """What onnxruntime-genai continues the parity prompt with, until it meets an end token."""
    og = pytest.importorskip("onnxruntime_genai")
    parity = exported.manifest.parity
    model = og.Model(str(exported.folder))
    parameters = og.GeneratorParams(model)
    parameters.set_search_options(max_length=CONTEXT)
    generator = og.Generator(model, parameters)
    generator.append_tokens(np.asarray(parity.greedy_prompt, dtype=np.int32))
    produced: list[int] = []
    while len(produced) < len(parity.greedy_tokens) and not generator.is_done():
        generator.generate_next_token()
        produced.append(int(generator.get_next_tokens()[0]))
    return produced


def relative_difference(exported: Exported) -> float:
    """Largest difference of logits between torch and the bundle, as a share of the largest, over a full context."""
    vocab_size = exported.compressed.spec.vocab_size
    tokens = np.random.default_rng(3).integers(0, vocab_size, CONTEXT)
    with torch.inference_mode():
        expected = exported.compressed.model(torch.from_numpy(tokens)[None], use_cache=False).logits[0].numpy()
    found = np.concatenate(list(decoder_of(exported.folder).logits(tokens)))
    return float(np.abs(found - expected).max() / np.abs(expected).max())
