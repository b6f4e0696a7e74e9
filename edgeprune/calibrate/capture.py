"""One streamed pass over token windows that measures everything the scores and the compression need.

`capture` takes a model, dense or edited (dropped blocks, factored sites, trimmed vocabulary), and windows of tokens,
and gives `CalibrationStats`. Windows go through the model a few at a time; hooks at the inputs of the sites add up
second moments, hooks at the inputs of the blocks add up cosines (LoRP, arXiv 2605.27786, eq. 4: token-wise normalised
block inputs, mean over all tokens, the first included). The first windows are run backwards too, with the text itself
as label (empirical Fisher), and hooks at the outputs of the sites add up squared gradients. Weights need no gradient,
so the backward pass costs about as much as the forward pass and holds activations only.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from edgeprune.artifacts import hash_parts
from edgeprune.calibrate.loss import head_loss, hidden_states
from edgeprune.calibrate.statistics import TABLE, CalibrationStats, input_key
from edgeprune.calibrate.sums import Sums
from edgeprune.errors import CalibrationError
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.events import Event, NullProgress, Progress
from edgeprune.schema.model import site_name

__all__ = ["NO_EDITS", "add_up", "advanced", "as_stats", "batch_windows", "capture", "check_windows"]

NO_EDITS = hash_parts([])
"""`edits_hash` of the dense model."""
_TOKENS_AT_ONCE = 512
"""Tokens of one pass: what the backward pass keeps of a 14-million-parameter model of 16 blocks then takes 200 MB."""


def capture(
    loaded: LoadedModel,
    tokens: Tensor,
    *,
    general_tokens: Tensor | None = None,
    token_count: Tensor | None = None,
    general_token_count: Tensor | None = None,
    edits_hash: str = NO_EDITS,
    gradient_tokens: int = 8192,
    with_output_gram: bool = False,
    progress: Progress | None = None,
) -> CalibrationStats:
    """Measure a model on windows of tokens.

    Args:
        loaded: the model; not changed.
        tokens: [n, seq] int32, ids of the model's own (possibly trimmed) vocabulary.
        general_tokens: [m, seq] int32, kept in the statistics, not run.
        token_count: [vocab] int64 over the whole calibration text; counted in `tokens` when None.
        general_token_count: the same for the general text.
        edits_hash: sha256 of the edits already applied to the model.
        gradient_tokens: tokens that are also run backwards (0: none, every output weight is then 0).
        with_output_gram: keep the second moment of each site's output gradients too, [out, out] a site.
        progress: told after each batch.

    Raises:
        CalibrationError: no windows, or activations that are not finite.
    """
    check_windows(tokens)
    sums = add_up(
        loaded,
        tokens,
        gradient_windows=-(-gradient_tokens // tokens.shape[1]),
        with_output_gram=with_output_gram,
        progress=progress,
    )
    return as_stats(
        sums,
        loaded,
        tokens,
        general_tokens=general_tokens,
        token_count=token_count,
        general_token_count=general_token_count,
        edits_hash=edits_hash,
    )


def check_windows(tokens: Tensor) -> None:
    """Refuse what are no windows [n, seq].

    Raises:
        CalibrationError: there are none.
    """
    if tokens.ndim != 2 or not tokens.numel():
        raise CalibrationError("There is no calibration text to measure the model on; give a longer domain text.")


def batch_windows(window_tokens: int) -> int:
    """Windows of that many tokens in one batch."""
    return max(1, _TOKENS_AT_ONCE // window_tokens)


def add_up(
    loaded: LoadedModel,
    tokens: Tensor,
    *,
    gradient_windows: int,
    first_window: int = 0,
    window_total: int | None = None,
    with_output_gram: bool = False,
    progress: Progress | None = None,
) -> Sums:
    """Run windows, or a part of them, and add up what the hooks see.

    Args:
        loaded: the model; not changed.
        tokens: [n, seq] int32.
        gradient_windows: as many windows of the whole, from its beginning, are run backwards too.
        first_window: where in the whole this part begins; a multiple of `batch_windows`.
        window_total: windows of the whole, for the progress told; `n` when None.
        with_output_gram: as of `capture`.
        progress: told after each batch.

    Raises:
        CalibrationError: activations that are not finite.
    """
    watch = progress or NullProgress()
    step = batch_windows(tokens.shape[1])
    probes = _Probes(loaded)
    probes.with_output_gram = with_output_gram
    with _frozen(loaded.model), probes.attached():
        for start in range(0, len(tokens), step):
            watch.raise_if_cancelled()
            batch = tokens[start : start + step].long()
            position = first_window + start
            probes.half = position // step % 2
            probes.run(batch, with_gradient=position < gradient_windows)
            watch.emit(advanced(position + len(batch), window_total or len(tokens)))
    return probes.sums


def as_stats(
    sums: Sums,
    loaded: LoadedModel,
    tokens: Tensor,
    *,
    general_tokens: Tensor | None,
    token_count: Tensor | None,
    general_token_count: Tensor | None,
    edits_hash: str,
    grams: Mapping[str, Tensor] | None = None,
) -> CalibrationStats:
    """Divide by the counts; the sums are used up. Arguments as of `capture`; `grams` where they are kept elsewhere."""
    vocab_size = loaded.adapter.embedding(loaded.model).weight.shape[0]
    general = torch.zeros(0, tokens.shape[1], dtype=torch.int32) if general_tokens is None else general_tokens
    return CalibrationStats(
        gram={key: moments.take_gram() for key, moments in sums.moments.items()} if grams is None else grams,
        mean={key: moments.mean for key, moments in sums.moments.items()},
        mean_absolute={key: moments.mean_absolute for key, moments in sums.moments.items()},
        row_absolute=sums.row_absolute(),
        activation_noise={key: moments.noise for key, moments in sums.moments.items()},
        output_weight=sums.output_weight(),
        output_gram=sums.output_gram(),
        block_similarity=sums.mean_similarity(),
        token_count=_count(tokens, vocab_size) if token_count is None else token_count,
        general_token_count=_count(general, vocab_size) if general_token_count is None else general_token_count,
        tokens=tokens.int(),
        general_tokens=general.int(),
        edits_hash=edits_hash,
        token_total=sums.token_total,
        stability=sums.stability(),
    )


class _Probes:
    """Hooks on one model and the sums they feed."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self.half = 0
        self.with_output_gram = False
        self.sums = Sums.zero(len(loaded.adapter.blocks(loaded.model)))
        self._with_gradient = False
        self._block_inputs: list[Tensor] = []

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Hooks stand while the block runs and are gone afterwards, whatever happens."""
        handles: list[torch.utils.hooks.RemovableHandle] = []
        adapter = self.loaded.adapter
        try:
            blocks = adapter.blocks(self.loaded.model)
            for index, block in zip(self.loaded.block_indices, blocks, strict=True):
                handles.append(block.register_forward_pre_hook(self._see_block, with_kwargs=True))
                seen: set[str] = set()
                for role in adapter.present_roles(block):
                    name = site_name(index, role)
                    site = adapter.site(block, role)
                    self.sums.gradient_square[name] = 0.0
                    handles.append(site.register_forward_hook(self._output_hook(name)))
                    if role in ("gate", "up"):
                        handles.append(site.register_forward_hook(self._row_hook(name)))
                    if input_key(name) not in seen:
                        seen.add(input_key(name))
                        handles.append(site.register_forward_pre_hook(self._input_hook(input_key(name))))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def run(self, batch: Tensor, *, with_gradient: bool) -> None:
        """Run windows [n, seq] int64 through the model, backwards too when asked."""
        self._with_gradient = with_gradient
        self._block_inputs = []
        with torch.set_grad_enabled(with_gradient):
            embedded = self.loaded.adapter.embedding(self.loaded.model)(batch).detach()
            hidden = hidden_states(self.loaded, batch, embedded=embedded.requires_grad_(with_gradient))
        self._add_input(TABLE, hidden)
        if not torch.isfinite(hidden).all():
            raise CalibrationError("The model's activations are not finite on the calibration text; check its weights.")
        self._add_similarity()
        if with_gradient:
            self._backward(batch, hidden)
        self.sums.token_total += batch.numel()

    def _backward(self, batch: Tensor, hidden: Tensor) -> None:
        head = self.loaded.adapter.head(self.loaded.model)
        labels = torch.full_like(batch, -1)
        labels[:, :-1] = batch[:, 1:]
        flat = hidden.detach().reshape(-1, hidden.shape[-1])
        cap = self.loaded.adapter.logit_cap(self.loaded.model)
        loss = head_loss(flat, head, labels.reshape(-1), with_gradient=True, cap=cap)
        assert loss.hidden_gradient is not None
        hidden.backward(loss.hidden_gradient.view_as(hidden))
        self.sums.widths[TABLE] = head.weight.shape[0]
        self.sums.gradient_square[TABLE] = self.sums.gradient_square.get(TABLE, 0.0) + loss.logit_gradient_square
        self.sums.gradient_tokens += batch.numel()

    def _see_block(self, _module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
        states = (args[0] if args else kwargs["hidden_states"]).detach()
        self._block_inputs.append(nn.functional.normalize(states.reshape(-1, states.shape[-1]), dim=1))

    def _add_similarity(self) -> None:
        states = torch.stack(self._block_inputs, dim=1)
        self.sums.similarity += (states @ states.transpose(1, 2)).sum(dim=0, dtype=torch.float64)  # eq. (4)
        self._block_inputs = []

    def _add_input(self, key: str, inputs: Tensor) -> None:
        flat = inputs.detach().reshape(-1, inputs.shape[-1])
        self.sums.moments_of(key, flat.shape[1]).add(flat, half=self.half, with_noise=self._with_gradient)

    def _input_hook(self, key: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _module, args: self._add_input(key, args[0])

    def _row_hook(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def see(module: nn.Module, _args: tuple[Tensor, ...], output: Tensor) -> None:
            bias = getattr(module, "bias", None)
            self.sums.add_rows(name, output.detach().reshape(-1, output.shape[-1]), bias)

        return see

    def _output_hook(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def add(gradient: Tensor) -> None:
            self.sums.gradient_square[name] += float(gradient.square().sum(dtype=torch.float64))
            if self.with_output_gram:
                self.sums.add_gradients(name, gradient.reshape(-1, gradient.shape[-1]))

        def see(_module: nn.Module, _args: tuple[Tensor, ...], output: Tensor) -> None:
            self.sums.widths[name] = output.shape[-1]
            if output.requires_grad:
                output.register_hook(add)

        return see


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Weights without gradients while the block runs."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)


def _count(tokens: Tensor, vocab_size: int) -> Tensor:
    return torch.bincount(tokens.reshape(-1).long(), minlength=vocab_size)


def advanced(done: int, total: int) -> Event:
    """The event that tells how many windows are measured."""
    return Event(
        kind="stage_advanced",
        stage="calibrate",
        message=f"measured {done} of {total} windows",
        done_fraction=0.4 * done / total,
    )
