"""The pass `refit`: output projections are solved for once more, front to back, against the dense model.

Every edit before this one was fitted to what its own site should give. What is lost there goes on through the residual
stream, and later blocks compute on inputs they were not made for. Here each attention's and each MLP's output
projection W0 [out, in], on the inputs a [in] that the edited model really gives it, is made to reach what the dense
model has in its residual stream at that place, m, from what the edited model has there without the projection, s:

    W = argmin sum over tokens |W a - (m - s - b)|^2 + r |W - W0|^2                                      (1)
      = (sum (m - s - b) a^T + r W0) (sum a a^T + r I)^-1                                                (2)

ridge regression towards W0, which is the closed form of block-wise reconstruction (compare the repair of dropped
blocks, arXiv 2605.15491, which inserts an operator; here no number is added). A projection of low rank is cut again, by
the eigenbasis of its outputs, which makes (1) a reduced-rank regression. Blocks that were dropped after a block are
part of what it is aimed at.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from msgspec.structs import replace
from torch import Tensor, nn

from edgeprune.compress.factor_site import factor_site, one_thread
from edgeprune.compress.factored import FactoredLinear
from edgeprune.compress.passes import Work, check_finite, linear
from edgeprune.compress.pivoted import PivotedLinear
from edgeprune.compress.recover.blockwise import STREAM_BYTES, Streams
from edgeprune.compress.recover.data import batch_windows
from edgeprune.compress.recover.vocabulary import Teacher
from edgeprune.schema.model import site_name
from edgeprune.schema.recipe import Recipe, SiteEdit

__all__ = ["RefitOutputs", "ridge"]

_RIDGE = 1e-3
"""r of (1), as a share of the mean of the diagonal of sum a a^T."""


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
            middles = _aim(work, streams, position)
            if not spec.has_mlp:
                middles = streams.targets  # the attention is all that is left to reach them
            roles = [role for role, is_there in (("o", spec.has_attention), ("down", spec.has_mlp)) if is_there]
            for role in roles:
                sites = {other: adapter.site(block, other) for other in roles}  # type: ignore[arg-type]
                targets = streams.targets if role == "down" else middles
                moments = _moments(streams, position, sites, role, targets)
                name = site_name(spec.index, role)  # type: ignore[arg-type]
                module = _solved(sites[role], edits.get(name), name, moments)
                adapter.set_site(block, role, module)  # type: ignore[arg-type]
            streams.advance(position)


@dataclass
class _Moments:
    """Means over tokens, float64."""

    gram: Tensor
    """[in, in] of a a^T."""
    cross: Tensor
    """[out, in] of (m - s - b) a^T."""
    mean: Tensor
    """[in] of a."""


def ridge(gram: Tensor, cross: Tensor, start: Tensor, share: float = _RIDGE) -> Tensor:
    """The matrix of (2).

    Args:
        gram: [in, in] float64.
        cross: [out, in] float64, targets times inputs.
        start: [out, in] float64, what is kept to where the inputs say nothing.
        share: r over the mean of the diagonal of `gram`.
    """
    penalty = max(share * float(gram.diagonal().mean()), torch.finfo(torch.float64).tiny)
    identity = torch.eye(len(gram), dtype=torch.float64)
    with one_thread():
        return torch.linalg.solve(gram + penalty * identity, (cross + penalty * start).T).T  # eq. (2)


def _windows(tokens: Tensor, hidden_size: int) -> Tensor:
    """[n, seq] int64: whole batches of the calibration windows, within the memory for hidden states."""
    size = min(len(tokens), batch_windows(tokens.shape[1]))
    # Three streams are held: the edited model's, the dense one's, and the dense one's between attention and MLP.
    most = max(size, STREAM_BYTES // (3 * 4 * hidden_size * tokens.shape[1]))
    count = min(len(tokens), most) // size * size
    return tokens[:count].long()


def _aim(work: Work, streams: Streams, position: int) -> list[Tensor]:
    """Move the targets on; gives the dense model's stream between attention and MLP of this block, batch by batch."""
    teacher = work.teacher
    assert teacher is not None
    index = teacher.block_indices.index(work.loaded.block_indices[position])
    block = teacher.adapter.blocks(teacher.model)[index]
    with _watched({"block": block, "down": teacher.adapter.site(block, "down")}) as seen:
        streams.aim(position)
    return [whole - added for (_, whole), (_, added) in zip(seen["block"], seen["down"], strict=True)]


def _moments(
    streams: Streams, position: int, sites: dict[str, nn.Module], role: str, targets: Sequence[Tensor]
) -> _Moments:
    """Over all windows, with the sites as they are now."""
    site = sites[role]
    assert isinstance(site, (nn.Linear, FactoredLinear))
    total: _Moments | None = None
    count = 0
    for hidden, target in zip(streams.inputs, targets, strict=True):
        with _watched(sites) as seen:
            output = streams.run(position, hidden)
        if role == "o" and "down" in sites:
            output = output - seen["down"][0][1]
        inputs, added = seen[role][0]
        # What the stream lacks of the target once this projection adds nothing but its bias.
        wanted = target - output + added if site.bias is None else target - output + added - site.bias
        a, t = inputs.reshape(-1, inputs.shape[-1]).double(), wanted.reshape(-1, wanted.shape[-1]).double()
        part = _Moments(gram=a.T @ a, cross=t.T @ a, mean=a.sum(dim=0))
        total = (
            part
            if total is None
            else _Moments(gram=total.gram + part.gram, cross=total.cross + part.cross, mean=total.mean + part.mean)
        )
        count += len(a)
    assert total is not None, "there is a window at least"
    return _Moments(gram=total.gram / count, cross=total.cross / count, mean=total.mean / count)


def _solved(module: nn.Module, edit: SiteEdit | None, name: str, moments: _Moments) -> nn.Module:
    """The site with its new matrix, in the form it had."""
    assert isinstance(module, (nn.Linear, FactoredLinear))
    start = module.product() if isinstance(module, FactoredLinear) else module.weight.detach().double()
    weight = ridge(moments.gram, moments.cross, start).float()
    check_finite(f"{name} after it was fitted again", weight)
    if edit is None:
        return linear(weight, module.bias)
    bias = None if module.bias is None else module.bias.detach()
    again = replace(edit, method="lowrank")  # whatever cut it first: this is the least loss of the outputs
    factors = factor_site(again, weight, bias, gram=moments.gram, mean=moments.mean)
    if factors.order is None:
        return FactoredLinear(factors.right, factors.left, factors.bias)
    return PivotedLinear(factors.right, factors.left, factors.order, factors.bias)


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
