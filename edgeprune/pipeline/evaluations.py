"""The store of finished evaluations, `run/evaluations/<key>.json`: written as each ends, never measured twice.

A key is a hash of everything a measured loss depends on. Kernels that round weights alike share a key, and so do
recipes that differ only in labels, seed, context length or the order of their edits.
"""

from pathlib import Path

from msgspec.structs import replace

from edgeprune import __version__
from edgeprune.artifacts import RunFolder, hash_parts, read_record, write_record
from edgeprune.errors import ModelError
from edgeprune.rounding import rounding_key
from edgeprune.schema.candidate import Candidate, SearchResult
from edgeprune.schema.kernel import FLOAT32
from edgeprune.schema.recipe import Recipe
from edgeprune.schema.residuals import Evaluation, EvaluationTask, Residuals

__all__ = ["REFRESH_TOKENS", "EvaluationStore", "edits_hash", "keyed", "with_measured"]

REFRESH_TOKENS = 8_192
"""What edits that come after others are fitted to while recipes are compared: a quarter of what calibration reads. The
recipe that is taken is built from all of it."""

_METHOD = {32: 2, 8: 3}
"""By the bits of the cache; raised when measuring changes, so that older results are not taken for new ones."""


def edits_hash(recipe: Recipe) -> str:
    """sha256 of what a recipe does to the weights: the whole record but for its labels, in one order."""
    sites = [
        replace(edit, kernel=rounding_key(edit.kernel), method=edit.method if edit.rank is not None else "lowrank")
        for edit in recipe.sites
        if edit.kernel != FLOAT32 or edit.rank is not None
    ]
    bare = replace(
        recipe,
        schema_version=1,
        technique="",
        context_tokens=0,
        seed=0,
        drop_blocks=tuple(sorted(recipe.drop_blocks)),
        drop_attention=tuple(sorted(recipe.drop_attention)),
        drop_mlp=tuple(sorted(recipe.drop_mlp)),
        repairs=tuple(sorted(recipe.repairs, key=lambda entry: entry.block)),
        keep_channels=tuple(sorted(recipe.keep_channels, key=lambda entry: entry.block)),
        keep_groups=tuple(sorted(recipe.keep_groups, key=lambda entry: entry.block)),
        table_kernel=rounding_key(recipe.table_kernel),
        sites=tuple(sorted(sites, key=lambda edit: edit.name)),
    )
    return hash_parts(bare)


def keyed(task: EvaluationTask) -> EvaluationTask:
    """The same task with its recipe's hash and its key filled in."""
    edits = edits_hash(task.recipe)
    # Answers to questions are cut to the context; losses do not depend on it beyond the window.
    context = None if task.questions is None else task.recipe.context_tokens
    key = hash_parts(
        __version__,
        _METHOD[task.recipe.kv_bits],
        task.model_hash,
        task.stats_hash,
        task.texts_hash,
        [task.window_tokens, task.token_limit, task.general_token_limit],
        task.refresh_tokens,
        [task.questions_hash, context],
        edits,
    )
    return replace(task, key=key, recipe_hash=edits)


def with_measured(result: SearchResult, residuals: Residuals | None) -> SearchResult:
    """The same result, with what was measured beside the candidates that were built before."""
    if residuals is None:
        return result
    built = {evaluation.recipe_hash: evaluation for evaluation in residuals.evaluations}

    def marked(entry: Candidate) -> Candidate:
        found = built.get(edits_hash(entry.recipe))
        if found is None:
            return entry
        return replace(
            entry,
            measured_loss_increase_nats=found.loss_increase_nats,
            measured_relative_loss=found.relative_loss,
        )

    chosen = None if result.chosen is None else marked(result.chosen)
    return replace(result, chosen=chosen, front=tuple(map(marked, result.front)))


class EvaluationStore:
    """Finished evaluations of one run folder."""

    def __init__(self, folder: RunFolder) -> None:
        """Name the folder; nothing is created."""
        self._root = folder.root / "evaluations"

    def path(self, key: str) -> Path:
        """Where the evaluation with that key stands."""
        return self._root / f"{key}.json"

    def get(self, key: str) -> Evaluation | None:
        """The finished evaluation; None when it was never finished, or its file is damaged and must be made again."""
        path = self.path(key)
        if not path.is_file():
            return None
        try:
            found = read_record(path, Evaluation)
        except ModelError:
            return None
        return found if found.key == key else None

    def put(self, evaluation: Evaluation) -> None:
        """Keep a finished evaluation: whole or not at all."""
        write_record(self.path(evaluation.key), evaluation)
