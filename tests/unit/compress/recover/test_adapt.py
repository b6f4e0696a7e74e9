"""The dense model learns the text before it is cut: in a copy, from its own predictions too, and only where asked."""

from pathlib import Path

import pytest
import torch

from edgeprune.compress.apply import compress_model
from edgeprune.compress.recover import adapt as adapting
from edgeprune.compress.recover.adapt import adapt, between
from edgeprune.compress.recover.data import RecoveryText
from edgeprune.errors import RecipeError
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.events import Event, NullProgress
from edgeprune.schema.recovery import Recovery, RecoveryMode
from tests.unit.compress.recover.cases import Case, copies, cut, loss, same
from tests.unit.compress.recover.test_resume import Killed, KilledAfter

BOTH = Recovery(steps=8, adapt_steps=12)


def test_a_copy_learns_the_text(llama: Case, text: RecoveryText) -> None:
    dense, _ = llama
    before = copies(dense)
    adapted = adapt(dense, text, BOTH, seed=0, progress=NullProgress())
    assert loss(adapted, text) < loss(dense, text)
    assert same(before, copies(dense))
    assert not any(parameter.requires_grad for parameter in adapted.model.parameters())


def test_what_it_predicted_before_holds_it(llama: Case, text: RecoveryText, monkeypatch: pytest.MonkeyPatch) -> None:
    dense, _ = llama
    windows = text.fixed(16, seed=1)

    @torch.no_grad()
    def predicted(loaded: LoadedModel) -> torch.Tensor:
        return loaded.model(windows).logits.log_softmax(dim=-1)

    def divergence(share: float) -> float:
        monkeypatch.setattr(adapting, "ADAPT_TEXT_SHARE", share)
        adapted = adapt(dense, text, BOTH, seed=0, progress=NullProgress())
        return float(torch.nn.functional.kl_div(predicted(adapted), predicted(dense), reduction="sum", log_target=True))

    assert divergence(0.2) < 0.8 * divergence(1.0)


def test_what_is_cut_is_the_adapted_model(llama: Case, text: RecoveryText, texts: Path) -> None:
    dense, stats = llama
    recipe = cut(dense, recovery=Recovery(adapt_steps=12))
    before = copies(dense)
    found = compress_model(dense, recipe, stats, progress=NullProgress(), texts=texts)
    plain = compress_model(dense, cut(dense), stats, progress=NullProgress())
    assert found.spec.parameter_count == plain.spec.parameter_count
    assert loss(found, text) < loss(plain, text)
    assert same(before, copies(dense))
    # Tensors that no cut touches are the adapted model's.
    adapted = adapt(dense, text, Recovery(adapt_steps=12), seed=recipe.seed, progress=NullProgress())
    name = "model.layers.2.self_attn.q_proj.weight"
    assert torch.equal(
        adapted.model.state_dict()[name], found.model.state_dict()["model.layers.1.self_attn.q_proj.weight"]
    )


def test_what_is_learned_from_stands_halfway(llama: Case, text: RecoveryText) -> None:
    dense, _ = llama
    adapted = adapt(dense, text, BOTH, seed=0, progress=NullProgress())
    before, after = copies(dense), copies(adapted)
    halfway = copies(between(dense, adapted))
    assert all(torch.allclose(value, (before[name] + after[name]) / 2, atol=1e-6) for name, value in halfway.items())
    assert same(before, copies(dense))
    assert same(after, copies(adapted))


@pytest.mark.parametrize("events", [1, 2, 6, 9])
def test_killed_before_and_after_the_cuts(llama: Case, texts: Path, tmp_path: Path, events: int) -> None:
    dense, stats = llama
    recipe = cut(dense, recovery=BOTH)
    undisturbed = compress_model(dense, recipe, stats, progress=NullProgress(), texts=texts)
    kept = tmp_path / "trainings"
    with pytest.raises(Killed):
        compress_model(dense, recipe, stats, progress=KilledAfter(events), texts=texts, trainings=kept)
    seen: list[str] = []

    class Seen(NullProgress):
        def emit(self, event: Event) -> None:
            seen.append(event.message)

    resumed = compress_model(dense, recipe, stats, progress=Seen(), texts=texts, trainings=kept)
    assert same(copies(undisturbed), copies(resumed))
    assert not any("dense model, step 3 of" in message for message in seen)


@pytest.mark.parametrize("mode", ["blockwise", "distill", "lora"])
def test_other_modes_leave_the_dense_model_as_it_is(llama: Case, mode: RecoveryMode) -> None:
    dense, stats = llama
    steps = Recovery(mode=mode, adapt_steps=3, **({"block_steps": 3} if mode == "blockwise" else {"steps": 3}))
    with pytest.raises(RecipeError, match="adapt_steps"):
        compress_model(dense, cut(dense, recovery=steps), stats, progress=NullProgress())
