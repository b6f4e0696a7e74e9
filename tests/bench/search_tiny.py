"""A model of three blocks, trained a little on the lab's medical text, and all its recipes of a small menu measured.

The menu of a block: all channels or half of them; the attention output dense or at rank 32, in float32 or int4; the
down projection in float32, int8 or int4; the middle block may go altogether: 24^3 + 24^2 = 14,400 recipes. Every
weight is made by `compress_model` itself. It fits ranks to statistics of the model as narrowed and shortened so far,
so a block's weights depend on all structural edits and on the block's own options, and on nothing else: one
compression for each of those, and the forward passes share their first blocks.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from msgspec.structs import replace
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from edgeprune.artifacts import hash_parts
from edgeprune.calibrate.documents import read_lines
from edgeprune.calibrate.loss import cut_windows, head_loss
from edgeprune.calibrate.run import CalibrationRequest, CalibrationResult, calibrate
from edgeprune.compress.apply import compress_model
from edgeprune.intake.load import LoadedModel, load_tokenizer
from edgeprune.schema.events import NullProgress
from edgeprune.schema.model import ModelSpec
from edgeprune.schema.recipe import ChannelCriterion, Drops, KeepChannels, Recipe, SiteEdit
from edgeprune.schema.scores import ScoreArrays, Scores
from tests.tiny import write_tiny_llama

__all__ = ["KERNELS", "MENU", "Option", "all_losses", "calibrated", "recipe_of", "restricted", "trained_model"]

KERNELS = ("fp32", "int8_b32_a4", "int4_b32_a4")
HIDDEN, WIDTH, RANK, CONTEXT = 128, 352, 32, 128
DROPPED = (1,)
CRITERION: ChannelCriterion = "obs"
"""In which order channels leave, as the scores of a calibration have it."""


@dataclass(frozen=True)
class Option:
    """What is done to one block."""

    channels: int | None
    rank: int | None
    o_kernel: str
    down_kernel: str


MENU = tuple(
    Option(channels, rank, o_kernel, down_kernel)
    for channels in (None, WIDTH // 2)
    for rank in (None, RANK)
    for o_kernel in ("fp32", "int4_b32_a4")
    for down_kernel in KERNELS
)


def trained_model(
    folder: Path, texts: Path, *, steps: int, blocks: int = 3, hidden: int = HIDDEN, width: int = WIDTH
) -> Path:
    """A folder with the model, trained once."""
    target = folder / f"tiny-{hash_parts(steps, blocks, hidden, width, texts.read_bytes().hex())[:12]}"
    if (target / "trained").is_file():
        return target
    write_tiny_llama(
        target,
        num_hidden_layers=blocks,
        hidden_size=hidden,
        intermediate_size=width,
        head_dim=hidden // 4,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    tokenizer = load_tokenizer(target)
    ids = [token for _, line in read_lines(texts) for token in (0, *tokenizer.encode(_text(line)).ids)]
    tokens = torch.tensor(ids)
    model = AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32)
    _initialise(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    draw = torch.Generator().manual_seed(0)
    for _ in range(steps):
        starts = torch.randint(0, len(tokens) - CONTEXT, (16,), generator=draw)
        batch = torch.stack([tokens[start : start + CONTEXT] for start in starts.tolist()])
        loss = model(input_ids=batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.save_pretrained(target)
    (target / "trained").write_text(f"{loss.item():.3f} nats after {steps} steps\n")
    return target


def calibrated(model: LoadedModel, texts: Path, general: Path, folder: Path, *, quick: bool) -> CalibrationResult:
    """Statistics and scores of the model on the same domain."""
    request = CalibrationRequest(
        domain=(texts,),
        general=(general,),
        context_tokens=CONTEXT,
        seed=0,
        kernels=KERNELS,
        # Only then is a block built the same whatever the others are, so that the table of all losses can be had.
        rounding="nearest",
        domain_token_limit=4096 if quick else 8192,
        general_token_limit=1024,
        selection_token_limit=1024 if quick else 2048,
    )
    return calibrate(model, request, texts_folder=folder, progress=NullProgress())


def restricted(spec: ModelSpec, scores: Scores, arrays: ScoreArrays) -> tuple[Scores, ScoreArrays]:
    """The same scores with all that is not on the menu taken away, so that the solver's space is the menu."""
    kept: ScoreArrays = {"kernel_loss/table": np.array([0.0, math.nan, math.nan])}
    positions = {block.index: position for position, block in enumerate(spec.blocks)}
    for block in spec.blocks:
        counts = scores.channel_counts[positions[block.index]]
        losses = arrays[f"channel_loss/{block.index}"]
        kept[f"channel_loss/{block.index}"] = np.array([np.interp(WIDTH // 2, counts, losses)])
        for site in block.sites:
            kernels = arrays[f"kernel_loss/{site.name}"].copy()
            ranks = np.full_like(arrays[f"rank_loss/lowrank/{site.name}"], math.nan)
            if site.role == "o":
                kernels[KERNELS.index("int8_b32_a4")] = math.nan
                ranks[RANK] = arrays[f"rank_loss/lowrank/{site.name}"][RANK]
            elif site.role != "down":
                kernels[1:] = math.nan
            kept[f"kernel_loss/{site.name}"], kept[f"rank_loss/lowrank/{site.name}"] = kernels, ranks
    assert scores.channel_criterion == CRITERION
    depth = tuple(option for option in scores.depth if option.drops == Drops(blocks=DROPPED))
    return (
        replace(
            scores,
            rank_methods=("lowrank",),
            channel_counts=tuple((WIDTH // 2,) for _ in spec.blocks),
            group_counts=(),
            depth=depth,
            vocabulary=(),
        ),
        kept,
    )


def recipe_of(spec: ModelSpec, options: Sequence[Option | None]) -> Recipe:
    """The recipe of one option a block; None drops it."""
    sites: list[SiteEdit] = []
    channels: list[KeepChannels] = []
    for block, option in zip(spec.blocks, options, strict=True):
        if option is None:
            continue
        if option.channels is not None:
            channels.append(KeepChannels(block=block.index, kept_count=option.channels, criterion=CRITERION))
        by_role = {site.role: site.name for site in block.sites}
        if option.rank is not None or option.o_kernel != "fp32":
            sites.append(SiteEdit(name=by_role["o"], kernel=option.o_kernel, rank=option.rank))
        if option.down_kernel != "fp32":
            sites.append(SiteEdit(name=by_role["down"], kernel=option.down_kernel))
    return Recipe(
        model_hash=spec.model_hash,
        context_tokens=CONTEXT,
        drop_blocks=tuple(block.index for block, option in zip(spec.blocks, options, strict=True) if option is None),
        keep_channels=tuple(channels),
        sites=tuple(sites),
    )


@torch.no_grad()
def all_losses(
    model: LoadedModel, calibration: CalibrationResult, documents: Sequence[Sequence[int]], menu: Sequence[Option]
) -> dict[tuple[Option | None, ...], float]:
    """Nats per token of every recipe of the menu, by its options."""
    windows = [window for window in cut_windows(documents, CONTEXT) if len(window) == CONTEXT]
    tokens = torch.tensor(windows)
    labels = tokens[:, 1:].reshape(-1)
    spec = model.spec
    found: dict[tuple[Option | None, ...], float] = {}
    widths = sorted({option.channels for option in menu}, key=str)
    rests = sorted({replace_channels(option, None) for option in menu}, key=str)
    for is_shorter in (False, True):
        kept = [position for position in range(len(spec.blocks)) if not (is_shorter and position in DROPPED)]
        for structure in itertools.product(widths, repeat=len(kept)):
            # All blocks take the same of the other options at once: one compression for each of those.
            variants = []
            for rest in rests:
                options: list[Option | None] = [None] * len(spec.blocks)
                for position, channels in zip(kept, structure, strict=True):
                    options[position] = replace_channels(rest, channels)
                variants.append(
                    compress_model(model, recipe_of(spec, options), calibration.stats, progress=NullProgress())
                )
            pieces = _Pieces(variants, tokens, labels)
            for chosen, nats in pieces.losses(len(kept)):
                options = [None] * len(spec.blocks)
                for position, channels, number in zip(kept, structure, chosen, strict=True):
                    options[position] = replace_channels(rests[number], channels)
                if all(option is None or option in menu for option in options):
                    found[tuple(options)] = nats
    return found


def replace_channels(option: Option, channels: int | None) -> Option:
    """The same option with other channels."""
    return Option(channels, option.rank, option.o_kernel, option.down_kernel)


class _Pieces:
    """Models of one structure whose blocks may be mixed; forward passes of equal first blocks are shared."""

    def __init__(self, variants: Sequence[LoadedModel], tokens: Tensor, labels: Tensor) -> None:
        self._variants = variants
        self._labels = labels
        first = variants[0]
        base = first.model.base_model
        self._embedded = first.adapter.embedding(first.model)(tokens)
        positions = torch.arange(tokens.shape[1])[None]
        self._arguments = {
            "position_embeddings": base.rotary_emb(self._embedded, positions),
            "position_ids": positions,
            "attention_mask": torch.full((1, 1, CONTEXT, CONTEXT), -math.inf).triu(1),
        }
        self._norm, self._head = base.norm, first.adapter.head(first.model)

    def losses(self, depth: int) -> list[tuple[tuple[int, ...], float]]:
        """Options by number, and nats per token."""
        return self._extend((), self._embedded, depth)

    def _extend(self, chosen: tuple[int, ...], hidden: Tensor, depth: int) -> list[tuple[tuple[int, ...], float]]:
        if len(chosen) == depth:
            states = self._norm(hidden)[:, :-1].reshape(len(self._labels), -1)
            return [(chosen, head_loss(states, self._head, self._labels).nats / len(self._labels))]
        found = []
        for number, variant in enumerate(self._variants):
            block = variant.adapter.blocks(variant.model)[len(chosen)]
            output = block(hidden, **self._arguments)
            output = output[0] if isinstance(output, tuple) else output
            found += self._extend((*chosen, number), output, depth)
        return found


def _initialise(model: nn.Module) -> None:
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                scale = 0.02 if "embed" in name else 1.0 / math.sqrt(parameter.shape[1])
                parameter.copy_(torch.randn(parameter.shape, generator=draw) * scale)
            else:
                parameter.fill_(1.0)


def _text(line: str) -> str:
    import msgspec

    return str(msgspec.json.decode(line)["text"])
