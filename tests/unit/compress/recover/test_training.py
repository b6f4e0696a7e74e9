"""What a recovery promises: loss on unseen text falls, shapes stay, the best weights stay, nothing else changes."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace

from edgeprune.calibrate.nearest import rounded
from edgeprune.compress.apply import compress_model
from edgeprune.compress.factored import FactoredLinear
from edgeprune.compress.passes import check_shapes
from edgeprune.compress.recover import distill
from edgeprune.compress.recover import recovery as recovery_module
from edgeprune.compress.recover.blockwise import Streams
from edgeprune.compress.recover.checkpoint import CheckpointFile
from edgeprune.compress.recover.data import RecoveryText, read_recovery_text
from edgeprune.compress.recover.optimizer import Optimizer, Rates
from edgeprune.compress.recover.recovery import open_streams, recover
from edgeprune.compress.recover.trained import kinds, own_parameters
from edgeprune.compress.recover.vocabulary import Teacher
from edgeprune.errors import RecipeError, UsageError
from edgeprune.schema.events import NullProgress
from edgeprune.schema.recipe import KeepTokens, SiteEdit
from edgeprune.schema.recovery import Recovery
from tests.unit.compress.recover.cases import WINDOW, Case, copies, cut, loss, same

FAMILIES = ["llama", "gpt2", "qwen3"]
MODES = [
    Recovery(mode="auto", steps=20, block_steps=4),
    Recovery(mode="blockwise", block_steps=10),
    Recovery(mode="distill", steps=20, freezing="alternate"),
    Recovery(mode="lora", steps=60),  # adapters begin with nothing
]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("recovery", MODES, ids=lambda recovery: recovery.mode)
def test_selection_loss_falls_and_factors_stay_factors(
    case: Callable[[str], Case], texts: Path, family: str, recovery: Recovery
) -> None:
    dense, stats = case(family)
    text = read_recovery_text(texts, dense, context_tokens=WINDOW)
    before = copies(dense)
    plain = compress_model(dense, cut(dense), stats, progress=NullProgress())
    trained = compress_model(dense, cut(dense, recovery=recovery), stats, progress=NullProgress(), texts=texts)
    check_shapes(trained, where="in the test")
    assert [type(module) for module in trained.model.modules()] == [type(module) for module in plain.model.modules()]
    assert any(isinstance(module, FactoredLinear) for module in trained.model.modules())
    if recovery.mode == "blockwise":
        # A random model's hidden states are learned without its losses being better for it.
        assert not same(copies(plain), copies(trained))
    else:
        assert loss(trained, text) < loss(plain, text) - 0.02
    assert not any(parameter.requires_grad for parameter in trained.model.parameters())
    assert same(before, copies(dense))


@pytest.mark.parametrize("recovery", MODES, ids=lambda recovery: recovery.mode)
def test_a_right_factor_that_sites_share_is_trained_as_one(
    llama: Case, texts: Path, text: RecoveryText, recovery: Recovery
) -> None:
    dense, stats = llama
    sites = [SiteEdit(name="blocks.0.q", rank=12)]
    sites += [SiteEdit(name=f"blocks.0.{role}", rank=12, form="shared") for role in ("k", "v")]
    recipe = replace(cut(dense), sites=tuple(sites))
    plain = compress_model(dense, recipe, stats, progress=NullProgress())
    again = replace(recipe, recovery=recovery)
    trained = compress_model(dense, again, stats, progress=NullProgress(), texts=texts)
    block = trained.adapter.blocks(trained.model)[0]
    q, k, v = (trained.adapter.site(block, role) for role in ("q", "k", "v"))
    assert q.right is k.right is v.right
    first = plain.adapter.site(plain.adapter.blocks(plain.model)[0], "q")
    assert not torch.equal(first.right, q.right)
    if recovery.mode != "blockwise":
        assert loss(trained, text) < loss(plain, text) - 0.02


def test_blocks_learn_the_dense_models_states(llama: Case, text: RecoveryText) -> None:
    dense, stats = llama
    student = compress_model(dense, cut(dense), stats, progress=NullProgress())
    done = recover(student, dense, text, Recovery(mode="blockwise", block_steps=30), seed=0, progress=NullProgress())
    assert len(done.blocks) == 2
    assert all(after <= before for before, after in done.blocks)
    assert done.blocks[0][1] < 0.95 * done.blocks[0][0]


def test_hidden_states_of_blocks_stay_within_their_bound(
    llama: Case, text: RecoveryText, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense, stats = llama
    student = compress_model(dense, cut(dense), stats, progress=NullProgress())
    teacher = Teacher(dense, student)
    long = Recovery(mode="blockwise", block_steps=1000)

    def held(streams: Streams) -> int:
        return sum(4 * states.numel() for states in (*streams.inputs, *streams.targets))

    unbounded = held(open_streams(student, teacher, text, long, seed=0))
    monkeypatch.setattr(recovery_module, "STREAM_BYTES", unbounded // 3)
    assert 0 < held(open_streams(student, teacher, text, long, seed=0)) <= unbounded // 3


def test_a_smaller_vocabulary_learns_from_the_dense_one(llama: Case, texts: Path) -> None:
    dense, stats = llama
    recipe = replace(cut(dense), keep_tokens=KeepTokens(kept_count=400))
    plain = compress_model(dense, recipe, stats, progress=NullProgress())
    text = read_recovery_text(texts, plain, context_tokens=WINDOW)
    with_training = replace(recipe, recovery=Recovery(mode="auto", steps=10, block_steps=2))
    trained = compress_model(dense, with_training, stats, progress=NullProgress(), texts=texts)
    assert loss(trained, text) < loss(plain, text)


def test_the_best_weights_are_kept_and_a_training_that_harms_is_stopped(llama: Case, text: RecoveryText) -> None:
    dense, stats = llama
    student = compress_model(dense, cut(dense), stats, progress=NullProgress())
    own_parameters(student.model)
    before = copies(student)
    parameters = dict(student.model.named_parameters())
    # Rates at which nothing can be learned: every measurement is worse than the beginning.
    optimizer = Optimizer(parameters, kinds(student), Rates(matrix=3.0, table=3.0, vector=3.0))
    told: list[distill.Told] = []
    outcome = distill.train(
        student,
        parameters,
        optimizer,
        text,
        Recovery(mode="distill", steps=40),
        teacher=None,
        seed=0,
        file=CheckpointFile(None),
        tell=told.append,
    )
    assert outcome.best_step == 0
    losses = [entry.loss for entry in told]
    lowest = losses.index(min(losses))
    assert lowest + 1 + distill.PATIENCE == len(losses), "it ends once it no longer gets better"
    assert outcome.last_step == len(losses) * distill.interval(40)
    assert all(entry.loss > outcome.best_loss for entry in told)
    assert same(before, copies(student))


@pytest.mark.parametrize(
    ("losses", "last"),
    [
        ((3.0, 2.9, 2.8, 2.7, 2.6, 2.5, 2.4, 2.3, 2.2, 2.1), 40),
        ((3.0, 2.9, 3.1, 3.0, 2.8), 16),
        ((0.9, 0.8, 0.9, 0.7, 0.8, 0.7), 24),
    ],
)
def test_a_training_goes_on_while_it_gets_better_than_it_was_since_it_began(
    llama: Case, text: RecoveryText, monkeypatch: pytest.MonkeyPatch, losses: tuple[float, ...], last: int
) -> None:
    """The first measurement is of the model as it came, and may be better than all that follow."""
    dense, stats = llama
    student = compress_model(dense, cut(dense), stats, progress=NullProgress())
    own_parameters(student.model)
    parameters = dict(student.model.named_parameters())
    measured = iter((1.0, *losses))
    monkeypatch.setattr(distill, "_selection_loss", lambda *_: next(measured))
    outcome = distill.train(
        student,
        parameters,
        Optimizer(parameters, kinds(student), distill.RATES),
        text,
        Recovery(mode="distill", steps=40),
        teacher=None,
        seed=0,
        file=CheckpointFile(None),
        tell=lambda _: None,
    )
    assert outcome.last_step == last
    assert outcome.best_loss == min(1.0, *losses)


def test_the_result_is_the_best_measured(llama: Case, text: RecoveryText) -> None:
    dense, stats = llama
    student = compress_model(dense, cut(dense), stats, progress=NullProgress())
    done = recover(student, dense, text, Recovery(mode="distill", steps=20), seed=0, progress=NullProgress())
    assert done.outcome is not None
    assert loss(student, text) == pytest.approx(done.outcome.best_loss, rel=1e-6)
    assert done.outcome.best_loss < done.outcome.first_loss


def test_factors_take_turns(llama: Case, text: RecoveryText) -> None:
    dense, stats = llama
    student = compress_model(dense, cut(dense), stats, progress=NullProgress())
    before = copies(student)
    # One period only: the left factors learn, the right ones stand still.
    recovery = Recovery(mode="distill", steps=1, freezing="alternate")
    recover(student, dense, text, recovery, seed=0, progress=NullProgress())
    after = copies(student)
    sites = [name for name, module in student.model.named_modules() if isinstance(module, FactoredLinear)]
    assert all(torch.equal(before[f"{site}.right"], after[f"{site}.right"]) for site in sites)
    assert not any(torch.equal(before[f"{site}.left"], after[f"{site}.left"]) for site in sites)


def test_weights_are_rounded_after_they_were_trained(llama: Case, texts: Path) -> None:
    dense, stats = llama
    recovery = Recovery(mode="distill", steps=4)
    recipe = replace(cut(dense, recovery=recovery), table_kernel="int8_b32_a4")
    trained = compress_model(dense, recipe, stats, progress=NullProgress(), texts=texts)
    table = dense.adapter.embedding(trained.model).weight.detach()
    plain = dense.adapter.embedding(dense.model).weight.detach()
    # Rounding what is rounded already changes nothing; it would change trained weights that are not.
    assert torch.allclose(rounded(table, "int8_b32_a4"), table, atol=1e-7)
    assert not torch.allclose(rounded(plain, "int8_b32_a4"), table, atol=1e-7)


def test_refused_without_text(llama: Case) -> None:
    dense, stats = llama
    with pytest.raises(UsageError, match="--domain"):
        compress_model(dense, cut(dense, recovery=MODES[0]), stats, progress=NullProgress())


@pytest.mark.parametrize(
    ("recovery", "word"),
    [
        (Recovery(), "nothing is trained"),
        (Recovery(steps=-1, block_steps=5), "negative"),
        (Recovery(mode="blockwise", steps=5), "no steps"),
        (Recovery(mode="lora", steps=5, block_steps=5), "no block_steps"),
    ],
)
def test_numbers_that_are_no_recovery_are_refused(llama: Case, texts: Path, recovery: Recovery, word: str) -> None:
    dense, stats = llama
    with pytest.raises(RecipeError, match=word):
        compress_model(dense, cut(dense, recovery=recovery), stats, progress=NullProgress(), texts=texts)
