"""A small random decoder as an ONNX graph and as numpy, and a bundle around it: numpy and edgeprune alone.

Runs where torch and onnx are not installed. One or more blocks of GroupQueryAttention with rotary embedding and a
residual connection; weights lie in one external file, as in real bundles.
"""

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.artifacts import hash_parts, write_arrays, write_record
from edgeprune.runtime.probe_graph import Graph
from edgeprune.runtime.probe_graph_wire import ArrayRange, Node, TypedValue, model_bytes, tensor_bytes
from edgeprune.schema.budget import Budget, Workload
from edgeprune.schema.bundle import BundleFile, BundleManifest, ChoiceSet, ParityRecord, TextSet
from edgeprune.schema.model import BlockSpec, ModelSpec, SiteSpec
from edgeprune.schema.recipe import Recipe

__all__ = ["TinyDecoder", "rehash", "write_bundle", "write_graph"]


class TinyDecoder:
    """Random weights; `graph()` for onnxruntime and `logits(tokens)` in numpy float64."""

    def __init__(self, *, vocab: int = 64, hidden: int = 32, blocks: int = 2, positions: int = 64, seed: int = 0):
        rng = np.random.default_rng(seed)
        self.vocab, self.hidden, self.blocks, self.positions = vocab, hidden, blocks, positions
        self.heads, self.kv_heads, self.head_dim = 2, 1, hidden // 2
        self.embedding = rng.normal(0, 1, (vocab, hidden)).astype(np.float32)
        width = (self.heads + 2 * self.kv_heads) * self.head_dim
        self.qkv = rng.normal(0, 0.6 / math.sqrt(hidden) * 2, (blocks, hidden, width)).astype(np.float32)
        self.o = rng.normal(0, 1 / math.sqrt(hidden), (blocks, self.heads * self.head_dim, hidden)).astype(np.float32)
        self.head = rng.normal(0, 1 / math.sqrt(hidden), (hidden, vocab)).astype(np.float32)
        angles = np.outer(np.arange(positions), 100.0 ** (-np.arange(0, self.head_dim, 2) / self.head_dim))
        self.cos, self.sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)

    def graph(self) -> Graph:
        nodes = [
            Node("Gather", ["embedding", "input_ids"], ["x0"]),
            Node("ReduceSum", ["attention_mask", "axis"], ["total"], {"keepdims": 0}),
            Node("Sub", ["total", "one"], ["last"]),
            Node("Cast", ["last"], ["seqlens"], {"to": 6}),
            Node("Shape", ["attention_mask"], ["mask_shape"]),
            Node("Gather", ["mask_shape", "one_index"], ["length64"], {"axis": 0}),
            Node("Cast", ["length64"], ["length"], {"to": 6}),
        ]
        arrays: dict[str, NDArray[Any]] = {
            "embedding": self.embedding,
            "axis": np.array([1], dtype=np.int64),
            "one": np.array([1], dtype=np.int64),
            "one_index": np.array(1, dtype=np.int64),
            "cos": self.cos,
            "sin": self.sin,
            "head": self.head,
        }
        inputs = [
            TypedValue("input_ids", "int64", ["batch", "rows"]),
            TypedValue("attention_mask", "int64", ["batch", "total"]),
        ]
        outputs = [TypedValue("logits", "float32", ["batch", "rows", self.vocab])]
        for i in range(self.blocks):
            arrays[f"qkv{i}"], arrays[f"o{i}"] = self.qkv[i], self.o[i]
            past, present = f"past_key_values.{i}", f"present.{i}"
            nodes += [
                Node("MatMul", [f"x{i}", f"qkv{i}"], [f"packed{i}"]),
                Node(
                    "GroupQueryAttention",
                    [f"packed{i}", "", "", f"{past}.key", f"{past}.value", "seqlens", "length", "cos", "sin"],
                    [f"attended{i}", f"{present}.key", f"{present}.value"],
                    {"num_heads": self.heads, "kv_num_heads": self.kv_heads, "do_rotary": 1},
                    "com.microsoft",
                ),
                Node("MatMul", [f"attended{i}", f"o{i}"], [f"added{i}"]),
                Node("Add", [f"x{i}", f"added{i}"], [f"x{i + 1}"]),
            ]
            for kind in ("key", "value"):
                shape: list[int | str] = ["batch", self.kv_heads, "past", self.head_dim]
                inputs.append(TypedValue(f"{past}.{kind}", "float32", shape))
                outputs.append(
                    TypedValue(f"{present}.{kind}", "float32", ["batch", self.kv_heads, "all", self.head_dim])
                )
        nodes.append(Node("MatMul", [f"x{self.blocks}", "head"], ["logits"]))
        return Graph(nodes, inputs, outputs, arrays)

    def logits(self, tokens: Sequence[int]) -> NDArray[np.float64]:
        """[n, vocab], computed without onnxruntime."""
        count, half = len(tokens), self.head_dim // 2
        x = self.embedding[np.asarray(tokens)].astype(np.float64)
        causal = np.triu(np.full((count, count), -np.inf), 1)
        for i in range(self.blocks):
            packed = (x @ self.qkv[i]).reshape(count, -1, self.head_dim)
            rotated = packed.copy()
            cos, sin = self.cos[:count, None], self.sin[:count, None]
            first, second = packed[..., :half], packed[..., half:]
            rotated[..., :half] = first * cos - second * sin
            rotated[..., half:] = second * cos + first * sin
            out = np.empty((count, self.heads, self.head_dim))
            for h in range(self.heads):
                group = h * self.kv_heads // self.heads
                scores = rotated[:, h] @ rotated[:, self.heads + group].T / math.sqrt(self.head_dim) + causal
                weights = np.exp(scores - scores.max(axis=1, keepdims=True))
                weights /= weights.sum(axis=1, keepdims=True)
                out[:, h] = weights @ packed[:, self.heads + self.kv_heads + group]
            x = x + out.reshape(count, -1) @ self.o[i]
        result: NDArray[np.float64] = x @ self.head
        return result

    def greedy(self, prompt: Sequence[int], count: int) -> list[int]:
        tokens = list(prompt)
        for _ in range(count):
            tokens.append(int(self.logits(tokens)[-1].argmax()))
        return tokens[len(prompt) :]

    def spec(self) -> ModelSpec:
        width = (self.heads + 2 * self.kv_heads) * self.head_dim
        blocks = tuple(
            BlockSpec(
                index=i,
                num_heads=self.heads,
                num_kv_heads=self.kv_heads,
                head_dim=self.head_dim,
                intermediate_size=self.hidden,
                sites=(
                    SiteSpec(name=f"blocks.{i}.qkv", role="qkv", in_features=self.hidden, out_features=width),
                    SiteSpec(name=f"blocks.{i}.o", role="o", in_features=self.hidden, out_features=self.hidden),
                ),
                norm_parameter_count=0,
            )
            for i in range(self.blocks)
        )
        return ModelSpec(
            name="tiny", model_hash="0" * 64, model_type="llama", family="llama", architecture="LlamaForCausalLM",
            hidden_size=self.hidden, vocab_size=self.vocab, max_positions=self.positions, is_tied=False,
            position_kind="rotary", rotary_dim=self.head_dim, norm_kind="rms", norm_epsilon=1e-6, activation="silu",
            is_gated=True, blocks=blocks, final_norm_parameter_count=0, source_dtype="float32", source_bytes=0,
            parameter_count=0, tokenizer_bytes=0,
        )  # fmt: skip


def write_bundle(
    folder: Path,
    decoder: TinyDecoder,
    *,
    label: str = "recipe",
    context_tokens: int = 32,
    document_lengths: Sequence[int] = (40, 3, 1, 17),
    question_count: int = 12,
    budget: Budget | None = None,
    source: TinyDecoder | None = None,
) -> Path:
    """A complete bundle; texts are drawn from `source` (the model itself), answers are its own in numpy."""
    author = source or decoder
    rng = np.random.default_rng(7)
    (folder / "eval").mkdir(parents=True)
    write_graph(folder, decoder.graph())
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    tokens = np.concatenate([_sample(author, length, rng) for length in document_lengths]).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(document_lengths)]).astype(np.int64)
    write_arrays(folder / "eval" / "domain.npz", {"tokens": tokens, "offsets": offsets})
    write_arrays(folder / "eval" / "choice.npz", _questions(author, question_count, rng))
    prompt = tuple(map(int, tokens[:5]))
    manifest = BundleManifest(
        label=label,
        files=(),
        spec=decoder.spec(),
        recipe=Recipe(model_hash="0" * 64, context_tokens=context_tokens),
        budget=budget,
        workload=Workload(context_tokens=context_tokens, prefill_chunk_tokens=8, decode_tokens=16),
        predicted=None,
        texts=(
            TextSet(
                name="domain", path="eval/domain.npz", scored_bytes=200, window_tokens=16, reference_loss_nats=None
            ),
        ),
        choices=(ChoiceSet(name="quiz", path="eval/choice.npz", question_count=question_count),),
        parity=ParityRecord(
            prompt_token_count=5, max_logit_difference=0.0, tolerance=1e-4, top1_agreement=1.0, greedy_prompt=prompt,
            greedy_tokens=tuple(decoder.greedy(prompt, 8)), greedy_matched_count=8,
        ),
        minimum_onnxruntime="1.23", opset=18, license=None, versions={}, seed=0,
    )  # fmt: skip
    rehash(folder, manifest)
    return folder


def write_graph(folder: Path, graph: Graph, *, location: str = "model.onnx.data") -> None:
    """Matrices into the data file, single numbers into the graph, where shape inference needs them."""
    tensors, data = [], bytearray()
    for name, array in graph.arrays.items():
        stored = ArrayRange(location, len(data), array.nbytes) if array.ndim >= 2 else None
        if stored is not None:
            data += array.tobytes()
        tensors.append(tensor_bytes(name, array, stored))
    content = model_bytes(graph.nodes, inputs=graph.inputs, outputs=graph.outputs, tensors=tensors)
    (folder / "model.onnx").write_bytes(content)
    (folder / "model.onnx.data").write_bytes(bytes(data))


def rehash(folder: Path, manifest: BundleManifest) -> None:
    """Write the manifest anew for the files as they are now."""
    from msgspec.structs import replace

    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "edgeprune.json")
    files = tuple(
        BundleFile(
            path=path.relative_to(folder).as_posix(),
            size_bytes=path.stat().st_size,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in paths
    )
    write_record(folder / "edgeprune.json", replace(manifest, files=files, files_sha256=hash_parts(files)))


def _sample(decoder: TinyDecoder, length: int, rng: np.random.Generator) -> NDArray[np.int64]:
    tokens = [int(rng.integers(decoder.vocab))]
    while len(tokens) < length:
        logits = decoder.logits(tokens)[-1]
        weights = np.exp(logits - logits.max())
        tokens.append(int(rng.choice(decoder.vocab, p=weights / weights.sum())))
    return np.asarray(tokens)


def _questions(decoder: TinyDecoder, count: int, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    sequences, prompts, sizes, answers = [], [], [], []
    for _ in range(count):
        prompt = rng.integers(0, decoder.vocab, int(rng.integers(2, 12)))
        scores = []
        for _ in range(4):
            choice = rng.integers(0, decoder.vocab, int(rng.integers(1, 4)))
            sequence = np.concatenate([prompt, choice])
            logits = decoder.logits(sequence.tolist())
            logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
            size = 3 * choice.size
            rows = np.arange(prompt.size - 1, sequence.size - 1)
            scores.append(logits[rows, choice].sum() / size)
            sequences.append(sequence)
            prompts.append(prompt.size)
            sizes.append(size)
        answers.append(int(np.argmax(scores)))
    return {
        "tokens": np.concatenate(sequences).astype(np.int32),
        "offsets": np.concatenate([[0], np.cumsum([s.size for s in sequences])]).astype(np.int64),
        "prompt_lengths": np.asarray(prompts, dtype=np.int32),
        "choice_bytes": np.asarray(sizes, dtype=np.int32),
        "choice_counts": np.full(count, 4, dtype=np.int32),
        "answers": np.asarray(answers, dtype=np.int32),
    }
