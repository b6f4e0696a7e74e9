"""Closed-form repair of dropped depth: the affine operator of low rank that comes nearest to what a run of parts did.

Takes the dense model, a set of blocks and halves to drop, and calibration windows; gives one operator for each run,
x <- x + left (right x) + c. As in Ghosted Layers (arXiv 2605.15491) it is the least-squares map from what the run read
to what it left, with two changes: an intercept, and reduced rank. Runs are fitted front to back: X is what the student
really reads there, earlier runs dropped and repaired, and the target T is what the dense model has after the run, so an
operator also takes up what earlier ones left over.

With weights w summing to 1, means m, D = T - X, and X_c, D_c centred:

    (1)  F = (X_c^T W X_c + e I)^-1 X_c^T W D_c               least squares of row vectors
    (2)  V_k = leading k eigenvectors of (X_c F)^T W (X_c F)  reduced-rank regression
    (3)  right = (F V_k)^T,  left = V_k,  c = m_D - m_X F V_k V_k^T
    (4)  w_t ~ 1 / |T_t|^2

The ridge e is the one that does best on a quarter of the windows when fitted to the others, and is then used on all.
What follows normalises every token by its size, so an error counts relative to it: massive tokens, the first one among
them, weigh no more than others.

Sums are float64.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.calibrate.halves import skipped_drops
from edgeprune.calibrate.loss import hidden_states
from edgeprune.errors import CalibrationError
from edgeprune.intake.adapters.repair import remove_repair, set_repair
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.events import NullProgress, Progress
from edgeprune.schema.recipe import Drops, Run

__all__ = [
    "RepairFactors",
    "default_rank",
    "fit_operator",
    "fit_repairs",
    "fit_token_limit",
    "least_fit_tokens",
    "repaired_drops",
]

FIT_TOKENS = 16_384
"""Calibration tokens an operator is fitted to, or eight for each of its inputs where that is more."""
TOKENS_PER_INPUT = 8
LEAST_TOKENS_PER_INPUT = 2
"""With fewer the fit would follow noise."""
_RIDGES = (1e-6, 1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
"""e of equation (1) as a share of the mean variance of an input: those that are tried."""
_FITTED_SHARE = 0.75
"""Of the tokens, while the ridge is chosen on the others."""
_TOKENS_AT_ONCE = 1024


@dataclass(frozen=True, kw_only=True)
class RepairFactors:
    """One operator, all float64."""

    right: Tensor
    """[rank, hidden]."""
    left: Tensor
    """[hidden, rank]."""
    intercept: Tensor
    """[hidden]."""

    def module(self) -> nn.Module:
        """It as a module in float32, without what is added to it: [..., hidden] -> [..., hidden]."""
        rank, hidden = self.right.shape
        with torch.device("meta"):
            right, left = nn.Linear(hidden, rank, bias=False), nn.Linear(rank, hidden)
        right.weight = nn.Parameter(self.right.float(), requires_grad=False)
        left.weight = nn.Parameter(self.left.float(), requires_grad=False)
        left.bias = nn.Parameter(self.intercept.float(), requires_grad=False)
        return nn.Sequential(right, left)


def default_rank(hidden_size: int) -> int:
    """An eighth of the width, a multiple of eight: a fiftieth of a usual block's parameters."""
    return min(hidden_size, max(8, hidden_size // 64 * 8))


def least_fit_tokens(hidden_size: int) -> int:
    """Calibration tokens without which no operator of that width is fitted."""
    return LEAST_TOKENS_PER_INPUT * hidden_size


def fit_token_limit(hidden_size: int) -> int:
    """Tokens an operator of that width is fitted to, where there are as many."""
    return max(FIT_TOKENS, TOKENS_PER_INPUT * hidden_size)


def fit_operator(inputs: Tensor, targets: Tensor, rank: int) -> RepairFactors:
    """The operator of that rank that leaves least of the difference between its output and the targets.

    Args:
        inputs: [tokens, hidden], what the run reads.
        targets: [tokens, hidden], what stands after it in the dense model.
        rank: 1..hidden.
    """
    X, T = inputs.double(), targets.double()
    D, w = T - X, _weights(T)
    moments = _Moments.of(X, D, w)
    F = moments.map(_best_ridge(X, D, w))
    explained = F.T @ moments.inputs @ F
    _, vectors = torch.linalg.eigh((explained + explained.T) / 2)
    V = vectors.flip(1)[:, :rank]  # eq. (2)
    right = (F @ V).T.contiguous()
    intercept = moments.mean_change - V @ (right @ moments.mean_input)
    return RepairFactors(right=right, left=V.contiguous(), intercept=intercept)  # eq. (3)


@dataclass(frozen=True, kw_only=True)
class _Moments:
    """Weighted moments of what a run read, X, and of what it added, D; float64."""

    mean_input: Tensor
    mean_change: Tensor
    inputs: Tensor
    """[hidden, hidden] X_c^T W X_c."""
    products: Tensor
    """[hidden, hidden] X_c^T W D_c."""

    @classmethod
    def of(cls, X: Tensor, D: Tensor, w: Tensor) -> "_Moments":
        w = w / w.sum()
        mean_x, mean_d = w @ X, w @ D
        weighted = (X - mean_x) * w[:, None]
        S, C = weighted.T @ (X - mean_x), weighted.T @ (D - mean_d)
        return cls(mean_input=mean_x, mean_change=mean_d, inputs=(S + S.T) / 2, products=C)

    @functools.cached_property
    def _spectrum(self) -> tuple[Tensor, Tensor]:
        values, vectors = torch.linalg.eigh(self.inputs)
        return values.clamp_min(0.0), vectors

    def map(self, share: float) -> Tensor:
        """[hidden, hidden] F, with a share of the mean variance of an input as ridge."""
        values, Q = self._spectrum
        damped = values + (share * values.mean()).clamp_min(torch.finfo(torch.float64).tiny)
        return Q @ ((Q.T @ self.products) / damped[:, None])  # eq. (1)


def _best_ridge(X: Tensor, D: Tensor, w: Tensor) -> float:
    """The ridge with which a map fitted to the first tokens leaves least on those after them."""
    count = round(_FITTED_SHARE * len(X))
    first = _Moments.of(X[:count], D[:count], w[:count])
    held_x, held_d = X[count:] - first.mean_input, D[count:] - first.mean_change
    errors = [float(w[count:] @ (held_d - held_x @ first.map(share)).square().sum(dim=1)) for share in _RIDGES]
    return _RIDGES[min(range(len(_RIDGES)), key=errors.__getitem__)]


@torch.no_grad()
def fit_repairs(
    loaded: LoadedModel, drops: Drops, tokens: Tensor, *, progress: Progress | None = None
) -> dict[int, RepairFactors]:
    """The operators of a set's repairs, by the block their run begins in.

    Args:
        loaded: the dense model; as it was when this returns.
        drops: what goes, and which of its runs are repaired.
        tokens: [n, seq] int32, windows of calibration text.
        progress: asked whether to go on.

    Raises:
        CalibrationError: too little text to fit an operator to.
    """
    windows = _fit_windows(tokens, loaded.spec.hidden_size)
    ranks = dict(drops.repairs)
    runs = {run.next_block: run for run in drops.runs if run.block in ranks}
    watch = progress or NullProgress()
    # Student and dense model are one until the first drop.
    start = drops.runs[0].block if runs else loaded.block_indices[0]
    dense = _DenseStates(loaded, windows, start, list(runs.values()), watch)
    states = dense.inputs
    found: dict[int, RepairFactors] = {}
    with skipped_drops(loaded, drops):
        for position, index in enumerate(loaded.block_indices):
            if index < start or index in drops.blocks:
                continue
            run = runs.pop(index, None)
            if run is not None:
                found[run.block] = fit_operator(_flat(states), _flat(dense.targets.pop(run.block)), ranks[run.block])
                if not runs:
                    break
                operator = found[run.block].module()
                states = [batch + operator(batch) for batch in states]
            watch.raise_if_cancelled()
            states = [dense.run(position, batch) for batch in states]
    return found


@contextmanager
def repaired_drops(loaded: LoadedModel, drops: Drops, factors: Mapping[int, RepairFactors]) -> Iterator[None]:
    """While the block runs the parts add nothing, and these of its runs, by the block they begin in, are repaired."""
    places = dict(zip(loaded.block_indices, loaded.adapter.blocks(loaded.model), strict=True))
    with ExitStack() as stack:
        stack.enter_context(skipped_drops(loaded, drops))
        for run in drops.runs:
            if run.block in factors:
                block = places[run.next_block]
                stack.callback(remove_repair, block, set_repair(block, factors[run.block].module()))
        yield


def _fit_windows(tokens: Tensor, hidden_size: int) -> Tensor:
    """The windows operators of that width are fitted to, from all over the calibration text.

    Raises:
        CalibrationError: they hold too few tokens.
    """
    count = min(len(tokens), -(-fit_token_limit(hidden_size) // tokens.shape[1]))
    windows = tokens[torch.linspace(0, len(tokens) - 1, count).round().long()]
    if windows.numel() < least_fit_tokens(hidden_size):
        raise CalibrationError(
            f"A repair of dropped blocks needs at least {least_fit_tokens(hidden_size)} tokens of calibration text, "
            f"and there are {windows.numel()}; give a longer domain text, or leave the repair out."
        )
    return windows


class _DenseStates:
    """The dense model's residual stream where a set begins and after its runs, and how its blocks are called."""

    def __init__(
        self, loaded: LoadedModel, windows: Tensor, start: int, runs: Sequence[Run], progress: Progress
    ) -> None:
        """Run the windows, in batches of one shape, so that what else a block is called with is alike in all."""
        self._blocks = loaded.adapter.blocks(loaded.model)
        self._calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self.inputs: list[Tensor] = []
        """Batches [n, seq, hidden] of what the block `start` reads."""
        self.targets: dict[int, list[Tensor]] = {run.block: [] for run in runs}
        """By the block a run begins in: batches after it; before the MLP's norm where it ends with an attention."""
        handles = [block.register_forward_pre_hook(self._call, with_kwargs=True) for block in self._blocks]
        hooks = [(_block(loaded, start), self.inputs)]
        for run in runs:
            block = _block(loaded, run.next_block)
            place = block.get_submodule(loaded.adapter.mlp_norm_path) if run.ends_at_mlp else block
            hooks.append((place, self.targets[run.block]))
        for place, seen in hooks:
            handles.append(place.register_forward_pre_hook(functools.partial(_keep, seen), with_kwargs=True))
        size = min(len(windows), max(1, _TOKENS_AT_ONCE // windows.shape[1]))
        try:
            for first in range(0, len(windows) - size + 1, size):
                progress.raise_if_cancelled()
                hidden_states(loaded, windows[first : first + size].long())
        finally:
            for handle in handles:
                handle.remove()

    def run(self, position: int, hidden: Tensor) -> Tensor:
        """[n, seq, hidden] through the block at a position, as it is now."""
        args, kwargs = self._calls[position]
        output = (
            self._blocks[position](hidden, *args[1:], **kwargs)
            if args
            else self._blocks[position](**{**kwargs, "hidden_states": hidden})
        )
        states: Tensor = output[0] if isinstance(output, tuple) else output
        return states

    def _call(self, _block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if len(self._calls) < len(self._blocks):
            self._calls.append((args, kwargs))


def _keep(seen: list[Tensor], _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    seen.append((args[0] if args else kwargs["hidden_states"]).clone())


def _flat(batches: Sequence[Tensor]) -> Tensor:
    """[tokens, hidden]."""
    return torch.cat([batch.reshape(-1, batch.shape[-1]) for batch in batches])


def _block(loaded: LoadedModel, index: int) -> nn.Module:
    return loaded.adapter.blocks(loaded.model)[loaded.block_indices.index(index)]


def _weights(targets: Tensor) -> Tensor:
    """[tokens] float64, summing to 1."""
    size = targets.square().sum(dim=1)
    w = 1.0 / size.clamp_min(1e-12 * size.median().clamp_min(torch.finfo(torch.float64).tiny))  # eq. (4)
    return w / w.sum()
