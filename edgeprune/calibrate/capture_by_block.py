"""Statistics of a model larger than memory: all windows go through one block before the next one is touched.

`capture_by_block` gives what `capture` gives without gradients; the rounding of activations is measured on all tokens.
Held are the hidden states of all windows (tokens x hidden float32) and the sums of one block; finished Grams go into
files (`StoredGrams`). Block similarities, for which the inputs of every block are needed side by side, are measured on
the first tokens alone and go through files too.
"""

from collections.abc import Callable, Collection

import torch
from torch import Tensor, nn

from edgeprune.calibrate.accumulate import InputMoments
from edgeprune.calibrate.block_stream import BlockStream
from edgeprune.calibrate.capture import NO_EDITS, as_stats
from edgeprune.calibrate.statistics import TABLE, CalibrationStats, input_key
from edgeprune.calibrate.stored_grams import StoredGrams, is_smaller_as_inputs
from edgeprune.calibrate.sums import Sums
from edgeprune.errors import CalibrationError
from edgeprune.intake.load import LoadedModel
from edgeprune.intake.stored.store import WeightStore
from edgeprune.schema.events import Event, NullProgress, Progress
from edgeprune.schema.model import site_name

__all__ = ["SIMILARITY_TOKENS", "capture_by_block"]

SIMILARITY_TOKENS = 2048
"""Tokens block similarities are measured on: of 32 blocks of 4,096 features they take 1 GB of disk."""
_TOKENS_AT_ONCE = 256

_SeeOutput = Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]


@torch.no_grad()
def capture_by_block(
    loaded: LoadedModel,
    tokens: Tensor,
    *,
    store: WeightStore,
    blocks: Collection[int] | None = None,
    general_tokens: Tensor | None = None,
    token_count: Tensor | None = None,
    general_token_count: Tensor | None = None,
    edits_hash: str = NO_EDITS,
    progress: Progress | None = None,
) -> CalibrationStats:
    """Measure a model on windows of tokens, one block at a time and without gradients.

    Args:
        loaded: the model; not changed.
        tokens: [n, seq] int32.
        store: where Grams and block inputs are kept.
        blocks: source indices of the blocks whose Grams are wanted; None for all.
        general_tokens: as of `capture`, like the rest.
        token_count: see there.
        general_token_count: see there.
        edits_hash: see there.
        progress: told after each block.

    Raises:
        CalibrationError: no windows, or activations that are not finite.
        DeviceError: the disk is full.
    """
    watch = progress or NullProgress()
    stream = BlockStream(loaded, tokens)
    adapter = loaded.adapter
    indices = loaded.block_indices
    sums = Sums.zero(len(indices))
    grams = StoredGrams(store)
    inputs: list[Tensor] = []
    for position, (index, block) in enumerate(zip(indices, adapter.blocks(loaded.model), strict=True)):
        watch.raise_if_cancelled()
        inputs.append(store.keep_exactly(_directions(stream.states)))
        probes = _BlockProbes(sums, with_gram=blocks is None or index in blocks, token_total=tokens.numel())
        seen: dict[str, nn.Module] = {}
        handles = []
        for role in adapter.present_roles(block):
            name, site = site_name(index, role), adapter.site(block, role)
            sums.gradient_square[name] = 0.0
            if role in ("gate", "up"):
                handles.append(site.register_forward_hook(probes.see_rows(name)))
            handles.append(site.register_forward_hook(probes.see_width(name)))
            if seen.setdefault(input_key(name), site) is site:
                handles.append(site.register_forward_pre_hook(probes.see_input(input_key(name))))
        try:
            stream.advance(position)
        finally:
            for handle in handles:
                handle.remove()
        probes.finish(grams)
        message = f"measured {position + 1} of {len(indices)} blocks"
        watch.emit(Event(kind="stage_advanced", stage="calibrate", message=message))
    probes = _BlockProbes(sums, with_gram=True, token_total=tokens.numel())
    norm = adapter.final_norm(loaded.model)
    for states in stream.states:
        hidden = norm(states)
        if not torch.isfinite(hidden).all():
            raise CalibrationError("The model's activations are not finite on the calibration text; check its weights.")
        probes.add(TABLE, hidden)
    probes.finish(grams)
    sums.token_total = tokens.numel()
    sums.similarity = _similarity(inputs) * (tokens.numel() / len(inputs[0]))
    return as_stats(
        sums,
        loaded,
        tokens,
        general_tokens=general_tokens,
        token_count=token_count,
        general_token_count=general_token_count,
        edits_hash=edits_hash,
        grams=grams,
    )


class _BlockProbes:
    """Hooks on the sites of one block, and what they add up."""

    def __init__(self, sums: Sums, *, with_gram: bool, token_total: int) -> None:
        self._sums = sums
        self._with_gram = with_gram
        self._token_total = token_total
        self._batches: dict[str, int] = {}
        self._inputs: dict[str, list[Tensor]] = {}

    def add(self, key: str, inputs: Tensor) -> None:
        """Add a batch [n, seq, in] of one key's inputs."""
        flat = inputs.reshape(-1, inputs.shape[-1])
        number = self._batches.get(key, 0)
        self._batches[key] = number + 1
        as_inputs = self._with_gram and is_smaller_as_inputs(self._token_total, flat.shape[1])
        if number == 0:
            self._sums.moments[key] = InputMoments(
                flat.shape[1], seed=len(self._sums.moments), with_gram=self._with_gram and not as_inputs
            )
        self._sums.moments[key].add(flat, half=number % 2, with_noise=True)
        if as_inputs:
            self._inputs.setdefault(key, []).append(flat.clone())

    def see_input(self, key: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _module, args: self.add(key, args[0])

    def see_rows(self, name: str) -> _SeeOutput:
        def see(module: nn.Module, _args: tuple[Tensor, ...], output: Tensor) -> None:
            self._sums.add_rows(name, output.reshape(-1, output.shape[-1]), getattr(module, "bias", None))

        return see

    def see_width(self, name: str) -> _SeeOutput:
        def see(_module: nn.Module, _args: tuple[Tensor, ...], output: Tensor) -> None:
            self._sums.widths[name] = output.shape[-1]

        return see

    def finish(self, grams: StoredGrams) -> None:
        """Move the Grams of this block into their files."""
        for key in self._batches:
            if key in self._inputs:
                grams.put_inputs(key, self._inputs.pop(key))
            elif self._with_gram:
                grams.put_gram(key, self._sums.moments[key].release_gram())


def _directions(states: list[Tensor]) -> Tensor:
    """[tokens, hidden] float32: the first hidden states at the length of one."""
    found: list[Tensor] = []
    left = SIMILARITY_TOKENS
    for batch in states:
        flat = batch.reshape(-1, batch.shape[-1])[:left]
        found.append(nn.functional.normalize(flat, dim=1))
        left -= len(flat)
        if not left:
            break
    return torch.cat(found)


def _similarity(inputs: list[Tensor]) -> Tensor:
    """[N, N] float64: cosines of the inputs of blocks i and j, summed over tokens."""
    total = torch.zeros(len(inputs), len(inputs), dtype=torch.float64)
    for start in range(0, len(inputs[0]), _TOKENS_AT_ONCE):
        states = torch.stack([each[start : start + _TOKENS_AT_ONCE] for each in inputs], dim=1)
        total += (states @ states.transpose(1, 2)).sum(dim=0, dtype=torch.float64)
    return total
