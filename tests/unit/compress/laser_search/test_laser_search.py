"""LASER's interventions, prior and searches, on a small random model where the answer can be computed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeprune.calibrate.answers import AskedQuestions
from edgeprune.calibrate.selection import exchanged_sites
from edgeprune.compress.laser_search.edges import edge_interventions
from edgeprune.compress.laser_search.interventions import PUBLISHED_FRACTIONS, Intervention, Spectra, published_grid
from edgeprune.compress.laser_search.prior import expected_changes
from edgeprune.compress.laser_search.run import search_laser, split_fifth
from edgeprune.errors import UsageError
from edgeprune.intake.load import LoadedModel, load_model
from edgeprune.schema.events import NullProgress
from edgeprune.schema.questions import Question
from tests.tiny import TINY_TEXT, write_tiny_gpt2, write_tiny_llama

WORDS = sorted(set(TINY_TEXT.split()))


def questions(count: int) -> list[Question]:
    rng = np.random.default_rng(1)
    made = []
    for number in range(count):
        words = [str(word) for word in rng.choice(WORDS, size=5, replace=False)]
        choices = tuple(f" {word}" for word in words[1:])
        made.append(Question(prompt=f"{number}. {words[0]}", choices=choices, answer=int(rng.integers(4))))
    return made


@pytest.fixture
def model(tmp_path: Path) -> LoadedModel:
    return load_model(write_tiny_llama(tmp_path / "llama"))


def test_the_published_grid_is_the_mlps_in_and_out_matrix_of_every_block(model: LoadedModel, tmp_path: Path) -> None:
    grid = published_grid(model.spec)
    assert {one.role for one in grid} == {"gate", "down"}
    assert {one.block for one in grid} == {block.index for block in model.spec.blocks}
    assert grid[0].block == model.spec.blocks[-1].index
    full = min(model.spec.hidden_size, model.spec.blocks[0].intermediate_size)
    ranks = [one.rank for one in grid if one.site == "blocks.0.gate"]
    assert ranks == list(dict.fromkeys(max(1, int(share * full)) for share in PUBLISHED_FRACTIONS))
    gpt2 = load_model(write_tiny_gpt2(tmp_path / "gpt2"))
    assert {one.role for one in published_grid(gpt2.spec)} == {"up", "down"}


def test_a_role_that_is_not_there_is_refused(model: LoadedModel) -> None:
    with pytest.raises(UsageError, match="no site qkv"):
        published_grid(model.spec, roles=["qkv"])


def test_truncation_is_the_best_of_its_rank(model: LoadedModel) -> None:
    spectra = Spectra(model)
    one = Intervention(1, "down", 5, 0.1)
    W = spectra.module(one.site).weight.detach().double()
    found = spectra.truncated(one).double()
    sigma = torch.linalg.svdvals(W)
    assert torch.linalg.matrix_rank(found, rtol=1e-5) == 5
    # Eckart and Young: the error is the norm of the singular values cut off.
    assert float((W - found).norm()) == pytest.approx(float(sigma[5:].norm()), rel=1e-5)


def test_the_prior_is_the_first_order_change_of_the_loss(model: LoadedModel) -> None:
    asked = questions(12)
    spectra = Spectra(model)
    one = Intervention(1, "gate", 12, 0.5)
    expected = expected_changes(model, spectra, [one], asked, context_tokens=64)[0]
    batch = AskedQuestions(model, asked, context_tokens=64)
    before = batch.ask(model).log_loss
    W = spectra.module(one.site).weight.detach()
    step = 0.02
    with exchanged_sites(model, {one.site: W + step * (spectra.truncated(one) - W)}):
        after = batch.ask(model).log_loss
    assert (after - before) / step == pytest.approx(expected, rel=0.05, abs=1e-4)


def test_questions_that_select_are_not_reported_on() -> None:
    asked = questions(50)
    selected, reported = split_fifth([*asked, asked[0]])
    assert len(selected) in (10, 11)
    assert not set(selected) & set(reported)
    assert len(selected) + len(reported) == 51
    assert split_fifth(asked)[0] == split_fifth(asked)[0]
    with pytest.raises(UsageError, match="at least 10"):
        split_fifth(asked[:9])


@pytest.mark.parametrize("search", ["grid", "fast", "compose"])
def test_a_search_gives_nothing_worse_than_the_dense_model_and_leaves_it_as_it_was(
    model: LoadedModel, search: str
) -> None:
    before = {name: value.clone() for name, value in model.model.state_dict().items()}
    grid = published_grid(model.spec, fractions=(0.8, 0.4, 0.1))
    found = search_laser(
        model, questions(60), search=search, context_tokens=64, progress=NullProgress(), interventions=grid
    )
    for name, value in model.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert found.selection_count == 12
    assert found.report.question_count == 48
    if found.sites:
        best = max((trial.accuracy, -trial.log_loss) for trial in found.trials if trial.question_count == 12)
        assert best > (found.dense_accuracy, -found.dense_log_loss)
    if search == "grid":
        assert found.evaluations == len(grid)
        chosen = max(found.trials, key=lambda trial: (trial.accuracy, -trial.log_loss))
        if found.sites:
            assert (chosen.sites, chosen.ranks) == (found.sites, found.ranks)
    if search == "fast":
        assert found.evaluations <= max(3.0, len(grid) / 50) + 0.5


def test_an_edit_that_costs_the_domain_too_much_is_rejected(model: LoadedModel) -> None:
    from edgeprune.calibrate.corpus import encode
    from edgeprune.calibrate.selection import prepare_selection
    from edgeprune.calibrate.token_bytes import token_byte_lengths

    domain = prepare_selection(
        model,
        [TINY_TEXT],
        encode(model.tokenizer, [TINY_TEXT]),
        byte_lengths=token_byte_lengths(model.tokenizer),
        window_tokens=64,
        limit_tokens=400,
        progress=NullProgress(),
    )
    found = search_laser(
        model,
        questions(60),
        search="grid",
        context_tokens=64,
        progress=NullProgress(),
        interventions=published_grid(model.spec, fractions=(0.8, 0.1)),
        domain=domain,
        max_loss=-1.0,  # nothing loses less than all of its loss
    )
    assert found.sites == ()
    better = [t for t in found.trials if (t.accuracy, -t.log_loss) > (found.dense_accuracy, -found.dense_log_loss)]
    assert better, "no edit beat the dense model, so nothing was put to the test"
    assert all(trial.is_rejected and trial.loss_change is not None for trial in better)
    assert found.report.accuracy == found.report.dense_accuracy


def with_noise_above(model: LoadedModel, site: str, rank: int) -> dict[str, torch.Tensor]:
    """A weight for the site: so many strong directions in noise."""
    generator = torch.Generator().manual_seed(3)
    shape = Spectra(model).module(site).weight.shape
    noise = 0.02 * torch.randn(*shape, generator=generator)
    left, right = (torch.linalg.qr(torch.randn(side, rank, generator=generator))[0] for side in shape)
    return {site: noise + left @ torch.diag(torch.linspace(4.0, 2.0, rank)) @ right.T}


def test_the_edge_of_the_noise_is_proposed_where_there_is_one(model: LoadedModel) -> None:
    grid = published_grid(model.spec)
    with exchanged_sites(model, with_noise_above(model, "blocks.1.down", 7)):
        edges = edge_interventions(Spectra(model), grid)
    assert Intervention(1, "down", 7, 7 / 64) in [replace(one, fraction=7 / 64) for one in edges]
    assert {one.prior for one in edges} <= {"marchenko_pastur", "gavish_donoho"}
    full = min(model.spec.hidden_size, model.spec.blocks[0].intermediate_size)
    assert all(0 < one.rank < full for one in edges)
    assert len(set(edges)) == len(edges)


def test_the_fast_search_tries_edges_first_and_says_what_proposed_each_edit(model: LoadedModel) -> None:
    with exchanged_sites(model, with_noise_above(model, "blocks.1.down", 7)):
        found = search_laser(model, questions(60), search="fast", context_tokens=64, progress=NullProgress())
        every = search_laser(
            model, questions(60), search="grid", context_tokens=64, progress=NullProgress(),
            interventions=published_grid(model.spec, fractions=(0.4,)),
        )  # fmt: skip
    asked = [(trial.sites[0], trial.ranks[0], trial.priors) for trial in found.trials]
    assert ("blocks.1.down", 7, ("marchenko_pastur",)) in asked[:3]
    assert any(priors == ("gradient",) for _, _, priors in asked)
    assert len(found.priors) == len(found.sites)
    assert all(trial.priors == (None,) for trial in every.trials)
