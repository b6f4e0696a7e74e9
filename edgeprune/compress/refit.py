"""The pass `refit`: output projections are solved for once more, front to back, against the dense model.

Every edit before this one was fitted to what its own site should give. What is lost there goes on through the residual
stream, and later blocks compute on inputs they were not made for. Here each attention's and each MLP's output
projection, on the inputs a that the edited model really gives it, is made to reach what the dense model has in its
residual stream at that place, m; with s what the edited model has there, the error e = m - s is to be made small:

    D = argmin sum over tokens w |D a - e|^2 + r |D|^2,  W = W0 + D,  w = 1 / |m|^2                          (1)

ridge regression towards the matrix W0 that is there, with the ridge of `least_squares`; it is the closed form of
block-wise reconstruction (compare the repair of dropped blocks, arXiv 2605.15491, which inserts an operator; here no
number is added). A projection of low rank is cut again, by the eigenbasis of its outputs, which makes (1) a
reduced-rank regression. Blocks that were dropped after a block are part of what it is aimed at; where an operator
stands for them, it is fitted again to what really reaches it. What does not help tokens it was not fitted to stays as
it was.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from msgspec.structs import replace
from torch import Tensor, nn

from edgeprune.calibrate.one_thread import one_thread
from edgeprune.calibrate.repair import fit_operator, fit_token_limit
from edgeprune.compress.factor_site import factor_site
from edgeprune.compress.factored import FactoredLinear
from edgeprune.compress.head_linear import HeadColumns
from edgeprune.compress.least_squares import Sample, best_change, token_weights
from edgeprune.compress.passes import Work, check_finite, linear
from edgeprune.compress.pivoted import PivotedLinear
from edgeprune.compress.recover.blockwise import STREAM_BYTES, Streams
from edgeprune.compress.recover.data import batch_windows
from edgeprune.compress.recover.vocabulary import Teacher
from edgeprune.intake.adapters.repair import repair_of
from edgeprune.schema.model import site_name
from edgeprune.schema.recipe import Recipe, SiteEdit

__all__ = ["RefitOutputs"]

_HELD_BATCH = 4
"""Every so manieth batch judges the ridge; of fewer batches than this, the last quarter of each."""


@dataclass(frozen=True)
class RefitOutputs:
    """The pass."""

    name: str = "refit"
    reads_stats: bool = False
    changes_inputs: bool = True

    def part(self, applied: Recipe, recipe: Recipe) -> Recipe:
        """Adds the request."""
        return replace(applied, refit=recipe.refit)

    def apply(self, work: Work, recipe: Recipe) -> None:
        """Solve block by block."""
        assert work.teacher is not None, "compress_model hands the dense model on"
        windows = _windows(work.stats.tokens, work.loaded.spec.hidden_size)
        streams = Streams(work.loaded, work.teacher, windows, Teacher(work.teacher, work.loaded).tokens)
        edits = {edit.name: edit for edit in recipe.sites if edit.rank is not None}
        adapter = work.loaded.adapter
        blocks = adapter.blocks(work.loaded.model)
        for position, (block, spec) in enumerate(zip(blocks, work.loaded.spec.blocks, strict=True)):
            work.progress.raise_if_cancelled()
            streams.aim_at(_place(work, position))
            starts = streams.targets
            middles = _aim(work, streams, position)
            if repair_of(block) is not None:
                # Without its attention the block reads what stands before the MLP, and so does what is in front of it.
                _repair_again(block, streams.inputs, starts if spec.has_attention else middles)
            if not spec.has_mlp:
                middles = streams.targets  # the attention is all that is left to reach them
            roles = [role for role, is_there in (("o", spec.has_attention), ("down", spec.has_mlp)) if is_there]
            for role in roles:
                sites = {other: adapter.site(block, other) for other in roles}  # type: ignore[arg-type]
                targets = streams.targets if role == "down" else middles
                sample = _sample(streams, position, sites, role, targets)
                name = site_name(spec.index, role)  # type: ignore[arg-type]
                module = _solved(sites[role], edits.get(name), name, sample)
                if module is not None:
                    adapter.set_site(block, role, module)  # type: ignore[arg-type]
            streams.advance(position)


def _windows(tokens: Tensor, hidden_size: int) -> Tensor:
    """[n, seq] int64: whole batches of the calibration windows, within the memory for hidden states."""
    size = min(len(tokens), batch_windows(tokens.shape[1]))
    # Three streams are held: the edited model's, the dense one's, and the dense one's between attention and MLP.
    most = max(size, STREAM_BYTES // (3 * 4 * hidden_size * tokens.shape[1]))
    count = min(len(tokens), most) // size * size
    return tokens[:count].long()


def _place(work: Work, position: int) -> int:
    """Where in the dense model the block at a position stands."""
    assert work.teacher is not None
    return list(work.teacher.block_indices).index(work.loaded.block_indices[position])


def _aim(work: Work, streams: Streams, position: int) -> list[Tensor]:
    """Move the targets on; gives the dense model's stream between attention and MLP of this block, batch by batch."""
    teacher = work.teacher
    assert teacher is not None
    block = teacher.adapter.blocks(teacher.model)[_place(work, position)]
    with _watched({"block": block, "down": teacher.adapter.site(block, "down")}) as seen:
        streams.aim(position)
    return [whole - added for (_, whole), (_, added) in zip(seen["block"], seen["down"], strict=True)]


def _repair_again(block: nn.Module, inputs: Sequence[Tensor], targets: Sequence[Tensor]) -> None:
    """Fit the operator in front of a block to what the edited model has there by now."""
    operator = repair_of(block)
    assert isinstance(operator, FactoredLinear)
    assert operator.bias is not None
    hidden = inputs[0].shape[-1]
    count = max(1, fit_token_limit(hidden) // inputs[0][..., 0].numel())
    factors = fit_operator(_flat(inputs[:count]), _flat(targets[:count]), operator.rank)
    check_finite("A repair after it was fitted again", factors.right, factors.left, factors.intercept)
    operator.right.data, operator.left.data = factors.right.float(), factors.left.float()
    operator.bias.data = factors.intercept.float()


def _flat(batches: Sequence[Tensor]) -> Tensor:
    return torch.cat([batch.reshape(-1, batch.shape[-1]) for batch in batches])


def _sample(
    streams: Streams, position: int, sites: dict[str, nn.Module], role: str, targets: Sequence[Tensor]
) -> Sample:
    """Inputs of a site and the errors after it over all windows, with the sites as they are now."""
    sample = Sample()
    for number, (hidden, target) in enumerate(zip(streams.inputs, targets, strict=True)):
        with _watched(sites) as seen:
            output = streams.run(position, hidden)
        if role == "o" and "down" in sites:
            output = output - seen["down"][0][1]
        inputs, errors, aims = (
            each.reshape(-1, each.shape[-1]) for each in (seen[role][0][0], target - output, target)
        )
        is_held = None if len(targets) < _HELD_BATCH else number % _HELD_BATCH == _HELD_BATCH - 1
        sample.add(inputs, errors, token_weights(aims), is_held=is_held)
    return sample


def _solved(module: nn.Module, edit: SiteEdit | None, name: str, sample: Sample) -> nn.Module | None:
    """The site with its new matrix, in the form it had; None where it is better as it is."""
    assert isinstance(module, (nn.Linear, FactoredLinear))
    with one_thread():
        change = best_change(sample)
    if change is None:
        return None
    start = module.product() if isinstance(module, FactoredLinear) else module.weight.detach().double()
    weight = (start + change).float()
    check_finite(f"{name} after it was fitted again", weight)
    if edit is None:
        return linear(weight, module.bias)
    bias = None if module.bias is None else module.bias.detach()
    if isinstance(module, HeadColumns):
        return HeadColumns(weight[:, module.places].contiguous(), module.head_count, module.in_features, bias)
    again = replace(edit, method="lowrank")  # whatever cut it first: this is the least loss of the outputs
    every = sample.all
    factors = factor_site(again, weight, bias, gram=every.gram / every.weight, mean=every.total / every.weight)
    found: FactoredLinear = (
        FactoredLinear(factors.right, factors.left, factors.bias)
        if factors.order is None
        else PivotedLinear(factors.right, factors.left, factors.order, factors.bias)
    )
    assert sample.held is not None, "a change was judged by it"
    return found if sample.held.gain(found.product() - start) > 0.0 else None


@contextmanager
def _watched(modules: dict[str, nn.Module]) -> Iterator[dict[str, list[tuple[Tensor, Tensor]]]]:
    """By name, what each module was given and gave, call by call, while the block runs."""
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in modules}

    def watch(name: str) -> Any:
        def see(_module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            given = args[0] if args else output
            seen[name].append((given, output[0] if isinstance(output, tuple) else output))

        return see

    handles = [module.register_forward_hook(watch(name)) for name, module in modules.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
