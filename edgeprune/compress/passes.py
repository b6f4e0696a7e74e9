"""What every pass over a model shares: the work in progress, when statistics are renewed, what must hold afterwards.

A pass takes the work and a recipe and edits the model in place. After each one the model's tensors must have exactly
the shapes that `edit_shapes` gives for the edits applied so far (`check_shapes`), and every tensor must be finite.
Statistics are measured again on the edited model before a pass that reads them, if an earlier pass changed what the
sites see: an optimum for inputs that no longer occur is none.
"""

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import torch
from msgspec.structs import replace as edit_record
from torch import Tensor, nn

from edgeprune.artifacts import hash_parts
from edgeprune.calibrate.capture import capture
from edgeprune.calibrate.capture_by_block import capture_by_block
from edgeprune.calibrate.statistics import CalibrationStats
from edgeprune.compress.factored import FactoredLinear, SharedLinear
from edgeprune.compress.head_linear import HeadColumns, HeadRows
from edgeprune.compress.pivoted import PivotedLinear
from edgeprune.compress.share import share_right_factors
from edgeprune.errors import ModelError
from edgeprune.intake.adapters.repair import repair_of
from edgeprune.intake.load import LoadedModel
from edgeprune.intake.stored.store import store_of
from edgeprune.runtime.executor import Executor
from edgeprune.schema.events import Event, Progress
from edgeprune.schema.model import ModelSpec, SiteForm
from edgeprune.schema.recipe import Recipe
from edgeprune.shapes import edit_shapes

__all__ = ["Pass", "Work", "check_finite", "check_shapes", "copy_modules", "linear", "run_passes", "weighed_blocks"]


@dataclass(kw_only=True)
class Work:
    """A model on its way through the passes."""

    loaded: LoadedModel
    """The copy that is edited; its spec describes the edits applied so far."""
    stats: CalibrationStats
    """Statistics of the model as it was when they were last measured."""
    dense: ModelSpec
    """Shapes before any edit."""
    applied: Recipe
    """The edits applied so far."""
    progress: Progress
    executor: Executor | None = None
    """Whose workers may take what is independent; None works here alone."""
    scratch: Path | None = None
    """A folder, not there yet, for what passes between; the workers see it under the same path."""
    teacher: LoadedModel | None = None
    """The dense model, adapted where the recipe says so, for passes that learn from it; None where there is none."""
    original: LoadedModel | None = None
    """The dense model before it was adapted; None where it was not."""
    texts: Path | None = None
    """Folder of the calibration's texts, for passes that train; None where there is none."""
    trainings: Path | None = None
    """Folder, not there yet, for trainings that are not finished; None keeps nothing."""
    is_stale: bool = field(default=False)
    """True when the sites' inputs have changed since the statistics were measured."""
    done_passes: int = 0
    pass_count: int = 1
    """Passes with something to do."""

    def tell(self, message: str, share: float) -> None:
        """Say how far the pass at work is.

        Args:
            message: what is done.
            share: of this pass, up to 1.
        """
        done = (self.done_passes + share) / self.pass_count
        self.progress.emit(Event(kind="stage_advanced", stage="compress", message=message, done_fraction=done))

    def refresh(self, recipe: Recipe) -> None:
        """Measure the statistics again where they are stale; of a model in files, those the recipe needs."""
        if not self.is_stale:
            return
        old, edits_hash, store = self.stats, hash_parts(self.applied), store_of(self.loaded.model)
        if store is not None:
            measured = capture_by_block(
                self.loaded,
                old.tokens,
                store=store,
                blocks=weighed_blocks(recipe),
                general_tokens=old.general_tokens,
                token_count=old.token_count,
                general_token_count=old.general_token_count,
                edits_hash=edits_hash,
            )
        else:
            measured = capture(
                self.loaded,
                old.tokens,
                general_tokens=old.general_tokens,
                token_count=old.token_count,
                general_token_count=old.general_token_count,
                edits_hash=edits_hash,
                # The passes weigh inputs only; gradients price edits, and those are chosen already.
                gradient_tokens=0,
            )
        # What an output is worth is still told by the dense model's gradients.
        self.stats = replace(measured, output_gram=self.stats.output_gram)
        self.is_stale = False

    def position(self, block_index: int) -> int:
        """Where the block with that source index stands now."""
        return list(self.loaded.block_indices).index(block_index)


def weighed_blocks(recipe: Recipe) -> set[int]:
    """Source indices of the blocks whose edits are fitted to their inputs."""
    ranked = {int(edit.name.split(".")[1]) for edit in recipe.sites if edit.rank is not None}
    return ranked | {edit.block for edit in recipe.keep_channels} | {edit.block for edit in recipe.keep_groups}


class Pass(Protocol):
    """One technique applied to a whole model; stateless."""

    @property
    def name(self) -> str:
        """As the recipe and the events call it."""
        ...

    @property
    def reads_stats(self) -> bool:
        """Whether the pass needs statistics of the model as it is now."""
        ...

    @property
    def changes_inputs(self) -> bool:
        """Whether sites see other inputs afterwards, so that statistics must be measured again."""
        ...

    def part(self, applied: Recipe, recipe: Recipe) -> Recipe:
        """The edits applied so far plus those of this pass; equal to `applied` when there is nothing to do."""
        ...

    def apply(self, work: Work, recipe: Recipe) -> None:
        """Edit `work.loaded` in place; `work.loaded.spec` still describes it before the edit."""
        ...


def run_passes(work: Work, passes: Iterable[Pass], recipe: Recipe) -> None:
    """Apply passes in order, those with nothing to do left out.

    Raises:
        ModelError: a pass left tensors of the wrong shape, or values that are not finite.
    """
    todo = []
    applied = work.applied
    for step in passes:
        after = step.part(applied, recipe)
        if after != applied:
            todo.append((step, after))
        applied = after
    work.pass_count = max(1, len(todo))
    for work.done_passes, (step, after) in enumerate(todo):
        work.progress.raise_if_cancelled()
        if step.reads_stats:
            work.refresh(recipe)
        step.apply(work, recipe)
        before = work.loaded.spec
        # Ids and files of the edited vocabulary are the tokens pass's to know; shapes are not its to choose.
        spec = edit_record(
            edit_shapes(work.dense, after),
            bos_token_id=before.bos_token_id,
            eos_token_ids=before.eos_token_ids,
            pad_token_id=before.pad_token_id,
            tokenizer_bytes=before.tokenizer_bytes,
        )
        work.loaded = replace(work.loaded, spec=spec)
        for block, edited in zip(work.loaded.adapter.blocks(work.loaded.model), spec.blocks, strict=True):
            share_right_factors(work.loaded.adapter, block, edited.sites)
        work.applied = after
        work.is_stale = work.is_stale or step.changes_inputs
        check_shapes(work.loaded, where=f"after the pass {step.name}")
        work.tell(f"{step.name}: {spec.parameter_count / 1e6:.2f} M parameters", 1.0)


def copy_modules(loaded: LoadedModel) -> LoadedModel:
    """A model of the same tensors in modules of its own, which can be exchanged."""
    shared = {id(parameter): parameter for parameter in loaded.model.parameters()}
    return replace(loaded, model=copy.deepcopy(loaded.model, shared))


def linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """An `nn.Linear` around tensors that exist already."""
    out_features, in_features = weight.shape
    with torch.device("meta"):
        module = nn.Linear(in_features, out_features, bias=bias is not None)
    module.weight = nn.Parameter(weight.detach().contiguous(), requires_grad=False)
    if bias is not None:
        module.bias = nn.Parameter(bias.detach().contiguous(), requires_grad=False)
    return module


def check_finite(what: str, *tensors: Tensor | None) -> None:
    """Refuse NaN and infinity where they arise.

    Raises:
        ModelError: names what is not finite.
    """
    for tensor in tensors:
        if tensor is not None and not bool(torch.isfinite(tensor).all()):
            raise ModelError(
                f"{what}: not all values are finite; the model's weights or the calibration statistics are damaged "
                "or beyond float32, check the model or calibrate again."
            )


def check_shapes(loaded: LoadedModel, *, where: str) -> None:
    """Every tensor of the model has the shape its spec states, and nothing more is stored.

    Raises:
        ModelError: names the first tensor that differs.
    """
    model, adapter, spec = loaded.model, loaded.adapter, loaded.spec
    blocks = adapter.blocks(model)
    _expect(f"the number of blocks {where}", len(blocks), len(spec.blocks))
    for module, block in zip(blocks, spec.blocks, strict=True):
        for site in block.sites:
            found = adapter.site(module, site.role)
            what = f"{site.name} {where}"
            _expect(f"the bias of {what}", found.bias is not None, site.has_bias)
            if isinstance(found, FactoredLinear):
                _expect(f"the rank of {what}", found.rank, site.rank)
                _expect(f"the form of {what}", _form(found), site.form)
                has_order = isinstance(found, PivotedLinear) and found.order is not None
                _expect(f"whether there is a row order of {what}", has_order, site.has_row_order)
                shape = (found.out_features, found.in_features)
            else:
                assert isinstance(found, nn.Linear), site.name
                _expect(f"the rank of {what}", None, site.rank)
                shape = (found.weight.shape[0], found.weight.shape[1])
            _expect(what, shape, (site.out_features, site.in_features))
        repair = repair_of(module)
        assert repair is None or isinstance(repair, FactoredLinear), block.index
        _expect(f"the rank of the repair of block {block.index} {where}", repair and repair.rank, block.repair_rank)
    table = (spec.vocab_size, spec.hidden_size)
    _expect(f"the embedding {where}", tuple(adapter.embedding(model).weight.shape), table)
    _expect(f"the head {where}", tuple(adapter.head(model).weight.shape), table)
    stored = sum({id(parameter): parameter.numel() for parameter in model.parameters()}.values())
    _expect(f"the number of parameters {where}", stored, spec.parameter_count)


def _form(layer: FactoredLinear) -> SiteForm:
    if isinstance(layer, PivotedLinear):
        return "pivot"
    if isinstance(layer, HeadRows):
        return "head_rows"
    if isinstance(layer, HeadColumns):
        return "head_columns"
    return "shared" if isinstance(layer, SharedLinear) else "factors"


def _expect(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise ModelError(
            f"Compression went wrong: {what} is {found} and should be {expected}; please report this with the recipe."
        )
