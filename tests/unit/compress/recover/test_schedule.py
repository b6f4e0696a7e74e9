"""Rates rise, stay and fall to nothing, and the last part always fits into the steps that are left."""

import pytest
import torch

from edgeprune.compress.apply import compress_model
from edgeprune.compress.recover import distill
from edgeprune.compress.recover.checkpoint import CheckpointFile
from edgeprune.compress.recover.data import RecoveryText
from edgeprune.compress.recover.optimizer import Optimizer, Rates
from edgeprune.compress.recover.schedule import COOLING_SHARE, Cooling, cooling_from, level_steps, rate_at
from edgeprune.compress.recover.trained import kinds, own_parameters
from edgeprune.schema.events import NullProgress
from edgeprune.schema.recovery import Recovery
from tests.unit.compress.recover.cases import Case, cut


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 40, 746])
def test_a_whole_training(steps: int) -> None:
    level = level_steps(steps)
    assert 0 <= level < steps
    cooling = cooling_from(level, level, steps)
    assert level < cooling.end <= steps
    rates = [rate_at(step, steps, cooling if step >= level else None) for step in range(cooling.end)]
    assert all(0.0 < rate <= 1.0 for rate in rates)
    falling = rates[level:]
    assert falling == sorted(falling, reverse=True)
    if steps >= 40:
        assert max(rates) == 1.0
        assert rates[0] <= 0.5
        assert rates[-1] < 0.05
        assert cooling.end >= 0.95 * steps


@pytest.mark.parametrize(("taken", "learned"), [(50, 30), (90, 90), (99, 1), (10, 5)])
def test_the_last_part_is_a_share_of_what_led_to_it_and_fits(taken: int, learned: int) -> None:
    found = cooling_from(taken, learned, 100)
    assert found.end <= 100
    assert 1 <= found.steps <= max(1.0, COOLING_SHARE * learned)


def test_a_training_that_gets_worse_goes_back_and_ends_with_lower_rates(
    llama: Case, text: RecoveryText, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense, stats = llama
    student = compress_model(dense, cut(dense), stats, progress=NullProgress())
    own_parameters(student.model)
    parameters = dict(student.model.named_parameters())
    optimizer = Optimizer(parameters, kinds(student), Rates(matrix=1e-3, table=1e-3, vector=1e-3))
    # Better once, then never again.
    given = iter([5.0, 4.0, *[6.0] * 40])
    monkeypatch.setattr(distill, "_selection_loss", lambda *_: next(given))
    best: dict[str, torch.Tensor] = {}
    begun: list[Cooling] = []
    real = distill._cool

    def watched(state: distill.Outcome, named: dict[str, torch.nn.Parameter], steps: int) -> None:
        real(state, named, steps)
        assert state.cooling is not None
        begun.append(state.cooling)
        best.update({name: value.detach().clone() for name, value in named.items()})
        assert all(torch.equal(value, state.best[name]) for name, value in best.items())

    monkeypatch.setattr(distill, "_cool", watched)
    outcome = distill.train(
        student,
        parameters,
        optimizer,
        text,
        Recovery(mode="distill", steps=100),
        teacher=None,
        seed=0,
        file=CheckpointFile(None),
        tell=lambda _: None,
    )
    assert begun == [Cooling(30, 4)]
    assert (outcome.best_step, outcome.last_step) == (10, 34)
    assert all(torch.equal(value, parameters[name]) for name, value in best.items()), "nothing better came of it"
