"""What every stage of a run reads: its settings, its shapes, its recipe."""

from msgspec.structs import replace

from edgeprune.artifacts import hash_parts, read_record
from edgeprune.pipeline.recipe_file import read_recipe_file
from edgeprune.pipeline.request import context_tokens
from edgeprune.pipeline.table import Run
from edgeprune.schema.budget import Workload
from edgeprune.schema.kernel import parse_kernel
from edgeprune.schema.model import ModelSpec
from edgeprune.schema.recipe import Recipe
from edgeprune.schema.residuals import Residuals
from edgeprune.schema.run import RunRequest
from edgeprune.schema.scores import Scores
from edgeprune.shapes import with_kv_bits

__all__ = [
    "BASELINES",
    "EXECUTION_PROVIDERS",
    "KERNELS",
    "dense_spec",
    "kernels_of",
    "read_recipe",
    "scores_hash",
    "searched_scores",
    "searched_spec",
    "stored_residuals",
    "workload_of",
]

BASELINES = {"dense": "fp32", "int8": "int8_b32_a4", "int4": "int4_b32_a4"}
"""Label -> kernel of every site and table: what each recipe is compared with."""

KERNELS = (
    "fp32", "fp16", "int8_b32_a4", "int8_b128_a4", "dynamic_int8", "int4_b32_a4", "int4_b64_a4", "int4_b128_a4",
)  # fmt: skip
"""Kernels whose rounding error is scored, so that the search may choose them."""

EXECUTION_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def dense_spec(run: Run) -> ModelSpec:
    """The dense model's shapes, from the run folder."""
    return read_record(run.folder.model, ModelSpec)


def searched_spec(run: Run) -> ModelSpec:
    """The same with the cache that the run asks for, which is what a search prices."""
    spec, request = dense_spec(run), run.request
    bits = 16 if request.activation_bits == 16 else request.kv_bits
    return replace(spec, blocks=with_kv_bits(spec.blocks, bits))


def kernels_of(request: RunRequest) -> tuple[str, ...]:
    """Kernels that the run's bundles may have: none that computes in float32 where all else is float16."""
    if request.activation_bits == 32:
        return KERNELS
    return tuple(kernel for kernel in KERNELS if parse_kernel(kernel).kind != "dynamic_int8")


def searched_scores(run: Run, scores: Scores) -> Scores:
    """What calibration scored, without what the run forbids."""
    return replace(scores, group_counts=()) if run.request.uniform_kv else scores


def workload_of(run: Run) -> Workload:
    """Lengths and threads of the run."""
    request = run.request
    return Workload(
        context_tokens=context_tokens(request, dense_spec(run)),
        decode_tokens=request.decode_tokens,
        thread_count=request.thread_count,
    )


def scores_hash(run: Run) -> str:
    """Of the scores and their arrays, by content: residuals belong to the scores they were measured beside."""
    return hash_parts(run.hash_of(run.folder.scores), run.hash_of(run.folder.scores_arrays))


def stored_residuals(run: Run) -> Residuals | None:
    """What building recipes has taught in this run; None when nothing was built, or beside other scores."""
    if not run.folder.residuals.is_file():
        return None
    found = read_record(run.folder.residuals, Residuals)
    return found if found.scores_hash == scores_hash(run) and found.evaluations else None


def read_recipe(run: Run) -> Recipe:
    """The recipe of the run, also one the user edited.

    Raises:
        UsageError: it does not fit the model or the run's context; the message has the line.
    """
    return read_recipe_file(run.folder.recipe, dense_spec(run), context_tokens=workload_of(run).context_tokens)
