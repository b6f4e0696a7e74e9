"""Channel criteria on cases whose answer is known."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from edgeprune.calibrate.capture import capture
from edgeprune.calibrate.criteria import contextual, flap, obs, output, wanda
from edgeprune.calibrate.criteria.inputs import Channels, channels_of, damped
from edgeprune.calibrate.statistics import CalibrationStats
from edgeprune.errors import CalibrationError
from edgeprune.intake.load import LoadedModel
from edgeprune.schema.model import SiteRole


def _channels(width: int = 40, outputs: int = 12, *, has_bias: bool = False) -> Channels:
    generator = torch.Generator().manual_seed(4)
    mixing = torch.randn(width, width, generator=generator, dtype=torch.float64)
    hidden = (torch.randn(500, width, generator=generator, dtype=torch.float64) @ mixing).relu() + 0.1
    weight = torch.randn(outputs, width, generator=generator, dtype=torch.float64)
    gram = hidden.T @ hidden / len(hidden)
    return Channels(
        weight=weight, gram=gram, mean=hidden.mean(0), has_bias=has_bias, input_absolute=hidden.abs().mean(0)
    )


def _error(channels: Channels, kept: list[int]) -> float:
    """Least squared error of the output with only these channels, by the definition."""
    S, W = damped(channels), channels.weight
    solved = torch.linalg.solve(S[kept][:, kept], S[kept] @ W.T)
    return float((W @ S @ W.T).trace() - (W @ S[:, kept] @ solved).trace())


@pytest.mark.parametrize("has_bias", [False, True])
def test_obs_removes_at_every_step_the_channel_that_costs_least(has_bias: bool) -> None:
    channels = _channels(has_bias=has_bias)
    kept, removed = list(range(40)), []
    while len(kept) > 1:
        costs = {channel: _error(channels, [other for other in kept if other != channel]) for channel in kept}
        removed.append(min(costs, key=lambda channel: costs[channel]))
        kept.remove(removed[-1])
    assert obs.order(channels).tolist() == [*kept, *removed[::-1]]


def test_obs_loses_no_more_than_rounds_and_both_less_than_single_scores() -> None:
    channels = _channels(120, 30)
    for kept in (40, 60, 90):
        errors = {
            name: _error(channels, order[:kept].tolist())
            for name, order in (
                ("obs", obs.order(channels)),
                ("output", output.order(channels)),
                ("flap", flap.order(channels)),
                ("wanda", wanda.order(channels)),
            )
        }
        assert errors["obs"] <= errors["output"] * 1.02
        assert max(errors["obs"], errors["output"]) < min(errors["flap"], errors["wanda"])


def test_obs_drops_dead_and_repeated_channels_first() -> None:
    channels = _channels()
    gram, weight = channels.gram.clone(), channels.weight.clone()
    gram[:, 7] = gram[:, 3]
    gram[7] = gram[3]
    gram[7, 7] = gram[3, 3]
    weight[:, 20] = 0.0
    order = obs.order(replace(channels, gram=gram, weight=weight)).tolist()
    assert 20 in order[-2:]
    assert (3 in order[-2:]) != (7 in order[-2:])


def test_flap_and_wanda_scores_are_the_published_formulas() -> None:
    hidden = torch.tensor([[1.0, 4.0, 0.0], [3.0, 4.0, 0.0]], dtype=torch.float64)
    weight = torch.tensor([[1.0, 2.0, 9.0], [-1.0, 2.0, 9.0]], dtype=torch.float64)
    channels = Channels(weight=weight, gram=hidden.T @ hidden / 2, mean=hidden.mean(0), has_bias=False)
    assert flap.scores(channels).tolist() == pytest.approx([1.0 * 2.0, 0.0, 0.0])
    assert wanda.scores(channels).tolist() == pytest.approx([1.0 * 5.0**0.5, 2.0 * 4.0, 0.0])
    assert flap.order(channels).tolist()[0] == 0  # constant channels cost nothing where a bias takes their mean
    assert wanda.order(channels).tolist() == [1, 0, 2]


def test_standardised_scores_compare_blocks_of_different_scale() -> None:
    values = torch.tensor([1.0, 2.0, 3.0, 10.0], dtype=torch.float64)
    found = flap.standardised(values)
    torch.testing.assert_close(found, flap.standardised(1000.0 * values + 5.0))
    assert float(found.mean()) == pytest.approx(0.0, abs=1e-12)
    assert float(found.std()) == pytest.approx(1.0)
    assert flap.standardised(torch.full((4,), 2.0)).tolist() == [0.0] * 4


def test_contextual_goes_by_the_weakest_of_column_and_rows() -> None:
    channels = replace(
        _channels(3, 2),
        input_absolute=torch.tensor([1.0, 5.0, 5.0]),
        row_absolute=(torch.tensor([4.0, 0.5, 4.0]), torch.tensor([4.0, 4.0, 3.0])),
    )
    assert contextual.scores(channels).tolist() == [1.0, 0.5, 3.0]
    assert contextual.order(channels).tolist() == [2, 0, 1]
    with pytest.raises(CalibrationError, match="mean absolute activations"):
        contextual.scores(replace(channels, row_absolute=()))


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_mean_absolute_activations_are_those_of_the_model(kind: str, request: pytest.FixtureRequest) -> None:
    loaded: LoadedModel = request.getfixturevalue(kind)
    windows = torch.randint(0, 512, (6, 32), generator=torch.Generator().manual_seed(7)).int()
    stats = capture(loaded, windows, gradient_tokens=64)
    block = loaded.adapter.blocks(loaded.model)[1]
    seen: dict[str, Tensor] = {}

    def keep(name: SiteRole) -> None:
        site = loaded.adapter.site(block, name)
        handles.append(
            site.register_forward_hook(
                lambda module, args, result: seen.update({f"{name}.in": args[0], f"{name}.out": result})
            )
        )

    handles: list[torch.utils.hooks.RemovableHandle] = []
    roles: list[SiteRole] = [role for role in ("gate", "up", "down") if role in loaded.adapter.roles]
    for role in roles:
        keep(role)
    with torch.no_grad():
        loaded.model(windows.long())
    for handle in handles:
        handle.remove()
    expected = seen["down.in"].abs().double().mean(dim=(0, 1))
    torch.testing.assert_close(stats.mean_absolute["blocks.1.mlp_hidden"], expected, rtol=1e-5, atol=1e-7)
    for role in roles[:-1]:
        site = loaded.adapter.site(block, role)
        assert isinstance(site, torch.nn.Linear)
        bias: Tensor | None = site.bias
        sizes = seen[f"{role}.out"].abs().double().mean(dim=(0, 1))
        if bias is not None:
            without = (seen[f"{role}.out"] - bias).abs().double().mean(dim=(0, 1))
            assert not torch.equal(sizes, without)
            sizes = torch.minimum(sizes, without)
        torch.testing.assert_close(stats.row_absolute[f"blocks.1.{role}"], sizes, rtol=1e-5, atol=1e-7)


def test_statistics_of_another_width_are_refused(llama: LoadedModel, stats: CalibrationStats) -> None:
    down = loaded_down(llama)
    with pytest.raises(CalibrationError, match="96 channels, the model has 90"):
        channels_of(stats, 0, down[:, :90])


def loaded_down(loaded: LoadedModel) -> Tensor:
    weight = loaded.adapter.site(loaded.adapter.blocks(loaded.model)[0], "down").weight
    assert isinstance(weight, Tensor)
    return weight
