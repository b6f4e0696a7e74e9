"""A recipe applied block by block: a whole bundle, what is refused before work, and what is predicted."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from edgeprune.errors import CalibrationError, UsageError
from edgeprune.intake.spec import read_spec
from edgeprune.pipeline.by_block import ByBlockRequest, bundle_by_block
from edgeprune.pipeline.host_by_block import LIBRARY_ANONYMOUS_BYTES, predict_by_block, step_bytes
from edgeprune.schema.budget import Workload
from edgeprune.schema.events import Event, NullProgress
from edgeprune.schema.model import BlockSpec, ModelSpec, SiteRole, SiteSpec
from edgeprune.schema.recipe import Recipe, SiteEdit
from edgeprune.schema.recovery import Recovery
from tests.tiny import TINY_TEXT, write_tiny_llama


class Listener(NullProgress):
    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)


def recipe_for(
    spec: ModelSpec, *, rank: int = 12, kernel: str = "int4_b32_a4", dropped: tuple[int, ...] = (0,)
) -> Recipe:
    sites = tuple(
        SiteEdit(name=site.name, kernel=kernel, rank=rank if block.index == 1 else None)
        for block in spec.blocks
        for site in block.sites
        if block.index not in dropped
    )
    return Recipe(model_hash=spec.model_hash, context_tokens=32, drop_blocks=dropped, sites=sites, table_kernel=kernel)


def request_for(model: Path, recipe: Recipe, **changes: object) -> ByBlockRequest:
    arguments: dict[str, object] = {
        "domain": (TINY_TEXT,),
        "report": (TINY_TEXT,),
        "window_tokens": 32,
        "window_count": 2,
        "workload": Workload(context_tokens=32, thread_count=1),
    }
    return ByBlockRequest(model=model, recipe=recipe, **(arguments | changes))  # type: ignore[arg-type]


def test_a_folder_becomes_a_bundle(tmp_path: Path) -> None:
    model = write_tiny_llama(tmp_path / "m", dtype="bfloat16", shard_count=2)
    recipe, told = recipe_for(read_spec(model)), Listener()
    manifest = bundle_by_block(request_for(model, recipe), output=tmp_path / "out" / "bundle", progress=told)
    assert manifest.recipe == recipe
    assert manifest.parity.exact_logit_difference is not None
    assert {block.index for block in manifest.spec.blocks} == {1, 2}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["bundle"]
    assert any(event.stage == "host" and event.message.startswith("needs about") for event in told.events)


def test_more_memory_than_allowed_is_refused_before_work(tmp_path: Path) -> None:
    model = write_tiny_llama(tmp_path / "m")
    request = request_for(model, recipe_for(read_spec(model)), max_host_memory_bytes=100_000_000)
    with pytest.raises(UsageError, match=r"--max-host-memory allows 100 MB"):
        bundle_by_block(request, output=tmp_path / "bundle", progress=NullProgress())
    assert not (tmp_path / "bundle").exists()


def test_what_trains_the_whole_model_is_refused(tmp_path: Path) -> None:
    model = write_tiny_llama(tmp_path / "m")
    recipe = replace(recipe_for(read_spec(model)), recovery=Recovery(mode="distill", steps=1))
    with pytest.raises(UsageError, match="take recovery out of the recipe"):
        bundle_by_block(request_for(model, recipe), output=tmp_path / "bundle", progress=NullProgress())


def test_too_little_text_is_refused(tmp_path: Path) -> None:
    model = write_tiny_llama(tmp_path / "m")
    request = request_for(model, recipe_for(read_spec(model)), domain=("one two",))
    with pytest.raises(CalibrationError, match="fewer than 32 tokens"):
        bundle_by_block(request, output=tmp_path / "bundle", progress=NullProgress())


def seven_billion(spec: ModelSpec, *, blocks: int = 32) -> ModelSpec:
    """The shapes of Llama 7B, from a spec for the other fields."""
    hidden, inner = 4096, 11_008
    sizes: dict[SiteRole, tuple[int, int]] = dict.fromkeys(("q", "k", "v", "o"), (hidden, hidden))
    sizes |= {"gate": (hidden, inner), "up": (hidden, inner), "down": (inner, hidden)}

    def block(index: int) -> BlockSpec:
        sites = tuple(
            SiteSpec(name=f"blocks.{index}.{role}", role=role, in_features=size[0], out_features=size[1])
            for role, size in sizes.items()
        )
        return BlockSpec(
            index=index, num_heads=32, num_kv_heads=32, head_dim=128, intermediate_size=inner, sites=sites,
            norm_parameter_count=2 * hidden,
        )  # fmt: skip

    parameters = blocks * (4 * hidden**2 + 3 * hidden * inner + 2 * hidden) + 2 * 32_000 * hidden + hidden
    return replace(
        spec, hidden_size=hidden, vocab_size=32_000, is_tied=False, max_positions=2048, parameter_count=parameters,
        blocks=tuple(map(block, range(blocks))), final_norm_parameter_count=hidden,
    )  # fmt: skip


def test_seven_billion_parameters_are_predicted_to_need_less_than_five_gigabytes(tmp_path: Path) -> None:
    spec = seven_billion(read_spec(write_tiny_llama(tmp_path / "m")))
    recipe = recipe_for(spec, rank=1000, kernel="int4_b128_a4", dropped=(0, 28, 29, 30))
    for rounding in ("nearest", "gptq"):
        asked = replace(recipe, rounding=rounding)
        assert predict_by_block(spec, asked, tmp_path, token_count=512).memory_bytes < 5_000_000_000
    # 16-bit weights alone take 13 GB, and no step grows with the number of blocks but the one that runs the bundle.
    deeper = seven_billion(spec, blocks=48)
    few, many = (step_bytes(each, recipe_for(each, rank=1000), token_count=512) for each in (spec, deeper))
    assert {name for name in few if many[name] > few[name]} == {"comparing"}
    assert all(size > LIBRARY_ANONYMOUS_BYTES for size in few.values())
