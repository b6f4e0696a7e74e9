"""Dynamic int8 is for sites whose inputs have no outliers, as measured on the calibration text."""

from pathlib import Path

import pytest
import torch
from msgspec.structs import replace

from edgeprune.calibrate.capture import capture
from edgeprune.calibrate.outliers import MOST_NOISE, has_outliers, noise_share
from edgeprune.compress.apply import compress_model
from edgeprune.errors import RecipeError
from edgeprune.schema.events import Event, NullProgress
from edgeprune.schema.recipe import SiteEdit
from tests.parity.bundles import no_edits, tiny


def test_a_site_with_outliers_is_refused_and_the_others_are_not(tmp_path: Path) -> None:
    loaded = tiny(tmp_path / "model", "llama")
    norm = loaded.adapter.norms(loaded.adapter.blocks(loaded.model)[1])["post_attention_layernorm"]
    with torch.no_grad():
        norm.weight[5] *= 1000.0  # type: ignore[operator, index]
    windows = torch.randint(0, 512, (8, 32), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    stats = capture(loaded, windows, gradient_tokens=256)
    recipe = no_edits(loaded)
    shares = [noise_share(stats, name, row=1) for name in ("blocks.0.up", "blocks.1.up")]
    assert shares[0] is not None
    assert shares[1] is not None
    assert shares[0] < 1e-3 < MOST_NOISE < shares[1]
    assert [has_outliers(stats, name) for name in ("blocks.0.up", "blocks.1.up")] == [False, True]
    blocks = noise_share(stats, "blocks.1.up", row=0)
    assert blocks is not None
    assert blocks < shares[1]
    sound = replace(recipe, sites=(SiteEdit(name="blocks.0.up", kernel="dynamic_int8"),))
    compress_model(loaded, sound, stats, progress=NullProgress())
    with pytest.raises(RecipeError, match=r"recipe site blocks\.1\.up: dynamic_int8 rounds all its inputs") as raised:
        compress_model(
            loaded,
            replace(recipe, sites=(*sound.sites, SiteEdit(name="blocks.1.up", kernel="dynamic_int8"))),
            stats,
            progress=NullProgress(),
        )
    assert raised.value.entry == ("sites", 1, "kernel")


def test_what_was_not_measured_is_told_and_not_taken_for_none(tmp_path: Path) -> None:
    loaded = tiny(tmp_path / "model", "llama")
    windows = torch.randint(0, 512, (8, 32), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    stats = capture(loaded, windows, gradient_tokens=0)
    assert noise_share(stats, "blocks.1.up", row=1) is None
    told: list[Event] = []

    class Told(NullProgress):
        def emit(self, event: Event) -> None:
            told.append(event)

    recipe = replace(no_edits(loaded), sites=(SiteEdit(name="blocks.1.gate", kernel="dynamic_int8"),))
    compress_model(loaded, recipe, stats, progress=Told())
    assert any(event.kind == "noted" and "were not measured" in event.message for event in told)
