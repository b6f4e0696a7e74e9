"""Each block learns by itself to give what the dense model has at its place, on the input the edited model gives it.

For kept block l the target is the dense model's hidden state where the next kept block stands (so the block before a
dropped run learns to do without it), the input is the edited model's own, with all blocks before l trained already: the
error of earlier blocks is corrected, not passed on. What is made small is the relative error of each token,

    mean over tokens of |f_l(x) - y|^2 / |y|^2                                                       (1)

since a norm follows wherever a hidden state is read, and the few tokens of very large norm would drown all others.
Layer-wise reconstruction in this form: Li et al. 2021 (BRECQ, section 3.2), for factors MAS-SVD.

Memory: beside the two models, the hidden states of both on the same windows, at most `STREAM_BYTES` together whatever
the text and the number of blocks, and the gradients, Adam's moments and activations of one block and one batch.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from edgeprune.compress.recover.checkpoint import CheckpointFile
from edgeprune.compress.recover.data import batch_windows
from edgeprune.compress.recover.optimizer import Optimizer, Rates, rate_factor
from edgeprune.compress.recover.precision import products_in
from edgeprune.compress.recover.streams import Blocks
from edgeprune.compress.recover.trained import Named, kinds, training
from edgeprune.intake.adapters.repair import repair_of
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.recovery import Recovery

__all__ = ["BLOCK_RATES", "STREAM_BYTES", "Streams", "relative_error", "train_block", "train_blocks"]

BLOCK_RATES = Rates(matrix=1e-3, table=0.0, vector=1e-3)
STREAM_BYTES = 512 << 20
"""Of the hidden states of both models on the windows blocks are trained on."""


class Streams:
    """Hidden states of both models on the same windows, block after block."""

    def __init__(
        self, student: LoadedModel, teacher: LoadedModel, windows: Tensor, to_teacher: Callable[[Tensor], Tensor]
    ) -> None:
        """Begin before the first kept block.

        Args:
            student: the edited model.
            teacher: the dense one.
            windows: [n, seq] int64 in the student's ids; n is a multiple of the windows of a batch.
            to_teacher: the same windows in the teacher's ids.
        """
        size = min(len(windows), batch_windows(windows.shape[1]))
        batches = windows.split(size)
        assert all(len(batch) == size for batch in batches), "batches must be of one shape"
        self._student, self._teacher = Blocks(student, batches[0]), Blocks(teacher, to_teacher(batches[0]))
        self._ends = _ends(student, teacher)
        self._dense_at = 0
        self.inputs = [self._student.inputs(batch) for batch in batches]
        """What the next block of the edited model is given."""
        self.targets = [self._teacher.inputs(to_teacher(batch)) for batch in batches]
        """What it should give, once `aim` was called."""

    def __len__(self) -> int:
        return len(self._student)

    def parameters(self, position: int) -> Named:
        """Trained tensors of a block."""
        return dict(self._student.module(position).named_parameters())

    def run(self, position: int, hidden: Tensor) -> Tensor:
        """The edited model's block."""
        return self._student.run(position, hidden)

    @torch.no_grad()
    def aim(self, position: int) -> None:
        """Move the targets to where the block after this one stands."""
        self.aim_at(self._ends[position])

    @torch.no_grad()
    def aim_at(self, place: int) -> None:
        """Move the targets on to what a block of the dense model reads, unless they are there or beyond it."""
        while self._dense_at < place:
            self.targets = [self._teacher.run(self._dense_at, hidden) for hidden in self.targets]
            self._dense_at += 1

    @torch.no_grad()
    def advance(self, position: int) -> None:
        """Move the inputs through the block at `position`."""
        self.inputs = [self.run(position, hidden) for hidden in self.inputs]


def _ends(student: LoadedModel, teacher: LoadedModel) -> list[int]:
    """For each block that is left, how many blocks of the dense model its output stands for."""
    followers = [*student.adapter.blocks(student.model)][1:]
    ends = []
    for own, next_own, follower in zip(student.block_indices, student.block_indices[1:], followers, strict=False):
        # Where an operator stands for a dropped run, the block before it need not.
        ends.append(teacher.block_indices.index(next_own if repair_of(follower) is None else own + 1))
    return [*ends, len(teacher.block_indices)]


def train_blocks(
    student: LoadedModel,
    streams: Streams,
    recovery: Recovery,
    *,
    seed: int,
    file: CheckpointFile,
    tell: Callable[[int, float, float], None],
) -> None:
    """Train the blocks in order, in place; one that does not get better on the batch held out stays as it was.

    Args:
        student: the edited model, with tensors of its own.
        streams: before its first block.
        recovery: how long.
        seed: of the order of the batches.
        file: where each finished block is kept.
        tell: called after each block with its position and its error of eq. (1) before and after.
    """
    names = {position: list(streams.parameters(position)) for position in range(len(streams))}
    kept = file.read()
    done = kept.position if kept is not None and kept.phase == "blockwise" else 0
    finished: dict[str, Tensor] = {} if kept is None or not done else kept.part("block")
    all_kinds = kinds(student)
    for position in range(len(streams)):
        streams.aim(position)
        prefix = f"{student.adapter.block_path(position)}."
        parameters = streams.parameters(position)
        if position < done:
            for name in names[position]:
                parameters[name].data.copy_(finished[prefix + name])
        else:
            own = {name: all_kinds[prefix + name] for name in parameters}
            optimizer = Optimizer(parameters, own, BLOCK_RATES, matrices="adam")
            before, after = train_block(streams, position, optimizer, recovery, seed=seed)
            finished |= {prefix + name: value.detach().clone() for name, value in parameters.items()}
            tensors = {f"block/{name}": value for name, value in finished.items()}
            file.write("blockwise", position + 1, {}, tensors)
            tell(position, before, after)
        streams.advance(position)


def train_block(
    streams: Streams, position: int, optimizer: Optimizer, recovery: Recovery, *, seed: int
) -> tuple[float, float]:
    """Train one block; gives eq. (1) on the last batch, which is not trained on where there are others.

    Returns:
        The error before and after; the block is put back when it did not fall.
    """
    parameters = streams.parameters(position)
    start = {name: value.detach().clone() for name, value in parameters.items()}
    count = max(1, len(streams.inputs) - 1)

    def error(number: int) -> Tensor:
        return relative_error(streams.run(position, streams.inputs[number]), streams.targets[number])

    with torch.no_grad():
        before = float(error(-1))
    generator = torch.Generator().manual_seed(seed * 1009 + position)
    with training(parameters):
        for step in range(recovery.block_steps):
            number = int(torch.randint(count, (), generator=generator))
            with products_in(recovery.precision, streams.inputs[number].device):
                loss = error(number)
            loss.backward()
            optimizer.step(rate_factor(step, recovery.block_steps))
    with torch.no_grad():
        after = float(error(-1))
        if not after < before:
            for name, value in parameters.items():
                value.data.copy_(start[name])
            after = before
    return before, after


def relative_error(found: Tensor, wanted: Tensor) -> Tensor:
    """Eq. (1) over [..., hidden]."""
    gap = (found.float() - wanted.float()).square().sum(dim=-1)
    return (gap / wanted.float().square().sum(dim=-1).clamp(min=1e-12)).mean()  # eq. (1)
