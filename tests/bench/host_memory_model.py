"""A Llama of any size with random weights, written block by block as shards of 16-bit safetensors."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edgeprune.demo.paths import demo_model_path
from edgeprune.intake.stored.write import Pending, write_tensors

__all__ = ["Shape", "source_bytes", "write_model"]

_STD = 0.02


@dataclass(frozen=True)
class Shape:
    """Sizes of a Llama with as many key-value heads as heads, and a head of its own."""

    blocks: int
    hidden: int
    inner: int
    heads: int
    vocabulary: int


def source_bytes(shape: Shape) -> int:
    """Bytes of the weights."""
    block = 4 * shape.hidden**2 + 3 * shape.hidden * shape.inner + 2 * shape.hidden
    return 2 * (shape.blocks * block + 2 * shape.vocabulary * shape.hidden + shape.hidden)


def write_model(folder: Path, shape: Shape, *, seed: int = 0) -> None:
    """Write the folder; its tokenizer is the demo model's, which has fewer tokens."""
    folder.mkdir(parents=True)
    demo = demo_model_path()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(demo / name, folder / name)
    (folder / "config.json").write_text(json.dumps(_config(shape), indent=2) + "\n")
    generator = torch.Generator().manual_seed(seed)
    shards = [_block(shape, index, generator) for index in range(shape.blocks)]
    shards.append(_outside(shape, generator))
    # The file of a shard is written before the values of the next one are drawn.
    places: dict[str, str] = {}
    for number, tensors in enumerate(shards, start=1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write_tensors(folder / name, tensors, metadata={"format": "pt"})
        places |= dict.fromkeys(tensors, name)
    index = {"metadata": {"total_size": source_bytes(shape)}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def _config(shape: Shape) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "bos_token_id": 0,
        "dtype": "bfloat16",
        "eos_token_id": 0,
        "head_dim": shape.hidden // shape.heads,
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.inner,
        "max_position_embeddings": 2048,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.blocks,
        "num_key_value_heads": shape.heads,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
        "tie_word_embeddings": False,
        "vocab_size": shape.vocabulary,
    }


def _block(shape: Shape, index: int, generator: torch.Generator) -> dict[str, Pending]:
    stem = f"model.layers.{index}."
    hidden, inner = shape.hidden, shape.inner
    made = {f"{stem}self_attn.{role}_proj.weight": _matrix(hidden, hidden, generator) for role in "qkvo"}
    made |= {f"{stem}mlp.{role}_proj.weight": _matrix(inner, hidden, generator) for role in ("gate", "up")}
    made[f"{stem}mlp.down_proj.weight"] = _matrix(hidden, inner, generator)
    for name in ("input_layernorm", "post_attention_layernorm"):
        made[f"{stem}{name}.weight"] = _gain(hidden, generator)
    return made


def _outside(shape: Shape, generator: torch.Generator) -> dict[str, Pending]:
    return {
        "lm_head.weight": _matrix(shape.vocabulary, shape.hidden, generator),
        "model.embed_tokens.weight": _matrix(shape.vocabulary, shape.hidden, generator),
        "model.norm.weight": _gain(shape.hidden, generator),
    }


def _matrix(rows: int, columns: int, generator: torch.Generator) -> Pending:
    def make() -> torch.Tensor:
        return torch.randn(rows, columns, generator=generator).mul_(_STD).to(torch.bfloat16)

    return Pending(torch.bfloat16, (rows, columns), make)


def _gain(size: int, generator: torch.Generator) -> Pending:
    return Pending(torch.bfloat16, (size,), lambda: (1 + 0.1 * torch.randn(size, generator=generator)).bfloat16())
