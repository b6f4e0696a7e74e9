"""The graphs that the decode bench times, made once: ours, onnxruntime-genai's builder's, and optimum-onnx's.

A random Llama of 125 million parameters (12 blocks, 768 wide, FFN 2048, 32,000 tokens, 4 of 12 KV heads), or a tiny
one. Same precision: in int4 every site and the head has blocks of 32 and accuracy level 4, rounded to nearest, in all
three. Optimum's export has no 4-bit kernels of its own; its float32 graph is rounded by onnxruntime's quantizer.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from edgeprune.calibrate.capture import capture
from edgeprune.compress.apply import compress_model
from edgeprune.export.graph import build_graph
from edgeprune.export.weights import write_model
from edgeprune.intake.load import LoadedModel, load_model
from edgeprune.schema.events import NullProgress
from edgeprune.schema.recipe import Recipe
from edgeprune.search.baselines import plain_recipe
from tests.bench.decode_rounds import CONTEXT
from tests.tiny import tiny_tokenizer_json

__all__ = [
    "KERNELS",
    "SIZES",
    "Size",
    "build_genai",
    "build_optimum",
    "build_ours",
    "kept",
    "random_model",
    "write_ours",
]

KERNELS = {"fp32": "fp32", "int4": "int4_b32_a4", "int8": "int8_b32_a4"}
OPTIMUM_PACKAGES = (
    "optimum-onnx==0.1.*",
    "optimum==2.1.*",
    "transformers>=4.57,<4.58",
    "huggingface-hub>=0.34,<1.0",
    "tokenizers>=0.22,<0.23",
)
"""As in tests/parity/test_optimum.py: optimum-onnx pins an older transformers than ours."""
EXPORT = """
import sys
from optimum.onnxruntime import ORTModelForCausalLM
ORTModelForCausalLM.from_pretrained(sys.argv[1], export=True).save_pretrained(sys.argv[2])
"""
QUANTIZE = """
import sys
import onnx
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
model = onnx.load(sys.argv[1])
quantizer = MatMulNBitsQuantizer(model, block_size=32, is_symmetric=True, accuracy_level=4)
quantizer.process()
quantizer.model.save_model_to_file(sys.argv[2], use_external_data_format=True)
"""


@dataclass(frozen=True)
class Size:
    """Shapes of the random model."""

    hidden: int
    inner: int
    blocks: int
    vocabulary: int
    heads: int
    kv_heads: int


SIZES = {
    "full": Size(hidden=768, inner=2048, blocks=12, vocabulary=32_000, heads=12, kv_heads=4),
    "tiny": Size(hidden=64, inner=128, blocks=2, vocabulary=512, heads=4, kv_heads=2),
}


def kept(folder: Path, make: Callable[[Path], None]) -> Path:
    """A folder that is made where it is not there yet; one half made is not taken for whole."""
    if not folder.is_dir():
        partial = folder.with_name(f".{folder.name}-{os.getpid()}")
        partial.mkdir(parents=True)
        make(partial)
        partial.rename(folder)
    return folder


def random_model(cache: Path, size: Size) -> Path:
    """The random Llama in Hugging Face layout."""

    def make(folder: Path) -> None:
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=size.vocabulary, hidden_size=size.hidden, intermediate_size=size.inner,
            num_hidden_layers=size.blocks, num_attention_heads=size.heads, num_key_value_heads=size.kv_heads,
            max_position_embeddings=1024, tie_word_embeddings=False, bos_token_id=0, eos_token_id=0,
        )  # fmt: skip
        LlamaForCausalLM(config).save_pretrained(folder)
        (folder / "tokenizer.json").write_text(tiny_tokenizer_json(), encoding="utf-8")
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")

    return kept(cache / "source", make)


def build_ours(source: Path, folder: Path, precision: str) -> Path:
    """Our graph of the same weights, rounded to nearest as the builder does."""

    def make(partial: Path) -> None:
        dense = load_model(source)
        recipe = plain_recipe(dense.spec, KERNELS[precision], context_tokens=CONTEXT, seed=0)
        write_ours(dense, recipe, partial)

    return kept(folder, make)


def write_ours(dense: LoadedModel, recipe: Recipe, folder: Path) -> None:
    """Our graph of a recipe, the head at the last position alone."""
    stats = capture(dense, torch.zeros(1, 8, dtype=torch.int32), gradient_tokens=0)
    write_model(
        build_graph(
            compress_model(dense, recipe, stats, progress=NullProgress()), context_tokens=CONTEXT, last_logits=True
        ),
        folder,
    )


def build_genai(source: Path, folder: Path, precision: str) -> Path:
    """The graph of onnxruntime-genai's model builder; its past's head size, which it leaves open, is filled in."""

    def make(partial: Path) -> None:
        command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", str(source), "-o", str(partial)]
        command += ["-p", precision, "-e", "cpu"]
        if precision != "fp32":
            command += ["--extra_options", "int4_block_size=32", "int4_accuracy_level=4"]
        _run(command, {**os.environ, "HF_HUB_OFFLINE": "1"})
        config = json.loads((source / "config.json").read_text(encoding="utf-8"))
        head_size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        path = partial / "model.onnx"
        model = onnx.load(path, load_external_data=False)
        for entry in (*model.graph.input, *model.graph.output):
            if entry.name.startswith(("past_key_values.", "present.")):
                entry.type.tensor_type.shape.dim[3].ClearField("dim_param")
                entry.type.tensor_type.shape.dim[3].dim_value = head_size
        path.write_bytes(model.SerializeToString())

    return kept(folder, make)


def build_optimum(source: Path, folder: Path, precision: str) -> Path:
    """The graph of optimum-onnx, exported in an environment of its own."""

    def make(partial: Path) -> None:
        if precision == "fp32":
            environment = {**os.environ, "PYTHONPATH": str(_optimum_packages()), "HF_HUB_OFFLINE": "1"}
            _run([sys.executable, "-c", EXPORT, str(source), str(partial)], environment)
            return
        dense = build_optimum(source, folder.with_name(folder.name.replace(precision, "fp32")), "fp32")
        _run([sys.executable, "-c", QUANTIZE, str(dense / "model.onnx"), str(partial / "model.onnx")], {**os.environ})

    return kept(folder, make)


def _optimum_packages() -> Path:
    """A folder of packages that come before this environment's, without those both share."""
    given = os.environ.get("EDGEPRUNE_OPTIMUM")
    if given:
        return Path(given)
    cache = Path(os.environ.get("EDGEPRUNE_BENCH_CACHE", Path(__file__).parent / "results" / "cache"))

    def make(partial: Path) -> None:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(partial)]
        _run([*command, *OPTIMUM_PACKAGES], {**os.environ})

    return kept(cache / "optimum-packages", make)


def _run(command: list[str], environment: dict[str, str]) -> None:
    found = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if found.returncode != 0:
        raise SystemExit(f"{' '.join(command[:4])} ... failed: {found.stderr.strip()[-2000:]}")
