"""`BundleManifest`: `edgeprune.json` in a bundle; with it a device needs nothing else to validate."""

from typing import Literal

from edgeprune.schema.base import SCHEMA_VERSION, Record
from edgeprune.schema.budget import Budget, Workload
from edgeprune.schema.estimate import Cost
from edgeprune.schema.model import ModelSpec
from edgeprune.schema.recipe import Recipe

__all__ = ["BundleFile", "BundleManifest", "ChoiceSet", "ParityRecord", "TextSet"]


class BundleFile(Record, frozen=True, kw_only=True):
    """One file of the bundle."""

    path: str
    """Relative, inside the bundle, with forward slashes."""
    size_bytes: int
    sha256: str


class TextSet(Record, frozen=True, kw_only=True):
    """A tokenised text to measure bits-per-byte on: `<path>` is an .npz with `tokens` and `offsets`, both int32/int64.

    Document d is `tokens[offsets[d]:offsets[d + 1]]`; windows of `window_tokens` are cut from each document apart,
    and the first token of a window is not scored. An optional third array `token_bytes` (UTF-8 bytes of each token)
    lets a part of the text be scored.
    """

    name: str
    """`domain` or `general`."""
    path: str
    scored_bytes: int
    """UTF-8 bytes of the scored tokens, the denominator of bits-per-byte."""
    window_tokens: int
    reference_loss_nats: float | None
    """Torch's mean loss per scored token on the compressed model; None when it was not computed."""
    dense_bits_per_byte: float | None = None
    """Torch's bits-per-byte of the dense model on the same text, so that a bundle alone can be held to a loss limit."""
    description: str = ""


class ChoiceSet(Record, frozen=True, kw_only=True):
    """Tokenised questions, an .npz: `tokens offsets prompt_lengths choice_bytes choice_counts answers`.

    Sequence s is prompt + choice; sequences of one question follow each other, `choice_counts` says how many. A count
    of one is an exact-match question: that continuation is the answer.
    """

    name: str
    path: str
    question_count: int
    reference_accuracy: float | None = None
    """Torch's accuracy on the compressed model; None when it was not computed."""
    description: str = ""


class ParityRecord(Record, frozen=True, kw_only=True):
    """Torch against onnxruntime on the same tokens, computed at export."""

    prompt_token_count: int
    max_logit_difference: float
    """Largest absolute difference / largest absolute logit of torch."""
    tolerance: float
    exact_logit_difference: float | None = None
    """The same with float32 activations in every kernel (accuracy level 0), so that only packing and wiring can differ;
    None when no kernel rounds its activations."""
    top1_agreement: float
    """Share of positions with the same most likely token, near ties set aside."""
    greedy_prompt: tuple[int, ...]
    greedy_tokens: tuple[int, ...]
    """What torch continues the prompt with; a device checks its own text against it."""
    greedy_matched_count: int
    """Leading tokens onnxruntime reproduced."""


class BundleManifest(Record, frozen=True, kw_only=True):
    """What is in the bundle and what it was made for."""

    schema_version: int = SCHEMA_VERSION
    label: str
    """`dense`, `int8`, `int4` or `recipe`."""
    files: tuple[BundleFile, ...]
    """Every file except the manifest."""
    files_sha256: str | None = None
    """Of `files` itself (`artifacts.hash_parts`), so that a hash that was written over is told from a file that was
    changed; None in bundles made before."""
    spec: ModelSpec
    recipe: Recipe
    budget: Budget | None
    workload: Workload
    predicted: Cost | None
    texts: tuple[TextSet, ...]
    choices: tuple[ChoiceSet, ...]
    parity: ParityRecord
    minimum_onnxruntime: str
    opset: int
    license: str | None
    optimum: str | None = None
    """`loads`, or `refused (reason)`: whether optimum's ORTModelForCausalLM does; None in bundles made before."""
    activation_bits: Literal[16, 32] = 32
    """What the graph computes in, its float cache included."""
    versions: dict[str, str]
    """Tool and library versions that made it."""
    seed: int
